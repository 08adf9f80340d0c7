"""`make watch`: serves the suite as `make up` does, with a Prometheus beside it, and Grafana where there is one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trunkline_cli.screen import Failure
from trunkline_cli.suite.alone import only_one
from trunkline_cli.suite.processes import PORTS
from trunkline_cli.suite.up import FOLDER, up

from tools.install import install_from_debian
from tools.watch import grafana, rules
from tools.watch.prometheus import Prometheus, started, stop

PROMETHEUS = os.environ.get("WATCH_PROMETHEUS", "127.0.0.1:9095")
GRAFANA_PORT = os.environ.get("WATCH_GRAFANA_PORT", "3000")


def addresses() -> dict[str, str]:
    """Where the processes of `trunkline up` serve their metrics."""
    return {
        name: os.environ.get(f"TRUNKLINE_{PORTS[name][0]}_METRICS_ADDRESS") or address
        for name, address in rules.ADDRESSES.items()
    }


@contextmanager
def grafana_beside(program: Path, prometheus_url: str, folder: Path) -> Iterator[str]:
    """Run Grafana with the dashboards while the block lasts; yields its URL. Its data is in the folder."""
    for name, text in {
        "datasources": grafana.data_sources(prometheus_url),
        "dashboards": grafana.providers(str(grafana.FOLDER)),
    }.items():
        path = folder / "provisioning" / name / "trunkline.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    unpacked = program.resolve().parent.parent
    home = unpacked if (unpacked / "public").is_dir() else Path("/usr/share/grafana")
    settings = {
        "GF_PATHS_DATA": folder / "data",
        "GF_PATHS_PROVISIONING": folder / "provisioning",
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": GRAFANA_PORT,
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
    }
    env = {key: str(value) for key, value in settings.items()}
    process = started([program, "server", "--homepath", home], env, folder / "grafana.log")
    try:
        yield f"http://127.0.0.1:{GRAFANA_PORT}/dashboards"
    finally:
        stop(process)


def main() -> int:
    """Serve until Ctrl-C."""
    program = install_from_debian("prometheus")
    if program is None:
        print("prometheus is not installed, and apt-get cannot fetch it", file=sys.stderr)
        return 1
    folder = (FOLDER / "watch").absolute()
    try:
        with only_one(FOLDER):  # before a Prometheus is started in vain
            pass
        with ExitStack() as stack:
            beside = Prometheus(program, folder / "prometheus", addresses(), PROMETHEUS)
            url = stack.enter_context(beside).url
            print(f"Prometheus {url}  (/alerts, /targets)")
            if (found := shutil.which("grafana")) is not None:
                shown = stack.enter_context(grafana_beside(Path(found), url, folder / "grafana"))
                print(f"Grafana    {shown}")
            return up(os.environ.get("WATCH_STORE", "sqlite"))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.code


if __name__ == "__main__":
    sys.exit(main())
