"""What deploy/ has for one server is what systemd, Compose, and Caddy take; its variables are known settings."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from trunkline_cli.edge import layout
from trunkline_cli.services import COMMANDS
from trunkline_cli.suite.processes import PORTS
from trunkline_runtime.config import SUITE_WIDE, declared, load
from trunkline_runtime.identity import keys

from tests.contract.manifests import PROCESSES, variables_of
from tools.deployment import values
from tools.install import FOLDER
from tools.make_settings import CONFIGS
from tools.packages import ROOT
from tools.watch import rules
from tools.watch.prometheus import RETENTION

DEPLOY = ROOT / "deploy"
SYSTEMD = DEPLOY / "systemd"
UNITS = sorted(path for path in SYSTEMD.iterdir() if path.suffix in (".service", ".target", ".timer"))
ENVIRONMENT = DEPLOY / "trunkline.env"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
SECRETS = {
    "TRUNKLINE_TENANT_SECRET_KEYS": "W2Tqf1YfKxjLJ4ceVgmwWSZIlwoj8Sm8vZ0bb6gRB2A=",
    "TRUNKLINE_TENANT_OPERATOR_TOKEN": "tl_op_" + "x" * 32,
    "TRUNKLINE_TENANT_EDGE_TOKEN": "tl_edge_" + "x" * 32,
}
ALL = {variable for service in PROCESSES for variable in variables_of(service)} | SUITE_WIDE.keys()


def tool(name: str, here: bool) -> str:
    """The path of a program; without it a visible skip, in CI on a machine that can have it a failure."""
    found = shutil.which(name) or (str(FOLDER / name) if (FOLDER / name).exists() else "")
    if not found:
        assert not (os.environ.get("CI") == "true" and here), f"{name} is not installed; see `make tools`"
        pytest.skip(f"{name} is not installed")
    return found


def systemd(name: str) -> str:
    return tool(name, Path("/lib/systemd").exists())


def entries(unit: Path) -> Iterator[tuple[str, str]]:
    """The keys of a unit with their values, each time that one is given."""
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            yield key, value


def entry(unit: Path, key: str) -> str:
    (value,) = [value for name, value in entries(unit) if name == key]
    return value


def given(unit: Path) -> dict[str, str]:
    return dict(value.split("=", 1) for key, value in entries(unit) if key == "Environment")


def unit_of(process: str) -> Path:
    return SYSTEMD / f"trunkline-{process}.service"


def from_file(text: str, prefix: str = "TRUNKLINE_") -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line.startswith(prefix))


def test_systemd_takes_the_units(tmp_path):
    """All at once, as they name each other; in a root whose programs are there."""
    copies = []
    for unit in UNITS:
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text())
    told = subprocess.run(
        [systemd("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", *copies],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")


def test_systemd_finds_little_that_a_service_may_do():
    services = [unit for unit in UNITS if unit.suffix == ".service"]
    for unit in services:
        told = subprocess.run(
            [systemd("systemd-analyze"), "security", "--offline=yes", "--threshold=20", "--no-pager", unit],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout.splitlines()[-1]


def test_the_user_and_the_folders_are_made(tmp_path):
    for program, name in (("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles", "tmpfiles.conf")):
        if os.getuid() != 0:
            pytest.skip("only root can make a user")
        place = tmp_path / "etc" / f"{name.removesuffix('.conf')}.d" / "trunkline.conf"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SYSTEMD / name, place)
        more = ["--create"] if program == "systemd-tmpfiles" else []
        told = subprocess.run(
            [systemd(program), *more, f"--root={tmp_path}", "trunkline.conf"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
    made = tmp_path / "var/lib/trunkline"
    (user,) = [
        line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines() if "trunkline" in line
    ]
    assert user[6].endswith("nologin")
    assert made.stat().st_uid == int(user[2])
    assert made.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc/trunkline/secrets").stat().st_uid == 0
    # Each folder that is named in the settings of one server is one of them, or in one.
    for name, value in values(CONFIGS).items():
        path = Path(value.removeprefix("sqlite:///"))
        if path.is_absolute() and name not in SUITE_WIDE:
            assert any((tmp_path / str(place)[1:]).is_dir() for place in (path, path.parent)), name


@pytest.mark.parametrize("process", PROCESSES)
def test_a_unit_starts_its_process_as_the_command_does(process):
    unit = unit_of(process)
    assert entry(unit, "ExecStart").endswith(f"/bin/python {' '.join(('-m', *COMMANDS[process]))}'")
    assert entry(unit, "EnvironmentFile") == "/etc/trunkline/trunkline.env"
    assert entry(unit, "Restart") == "always"
    assert unit.name in entry(SYSTEMD / "trunkline.target", "Wants").split()
    assert ("PartOf", "trunkline.target") in entries(unit)
    assert entry(unit, "Type") == "notify"
    state = dict(entries(unit)).get("StateDirectory", "")
    assert state == ("" if process == "worker" else f"trunkline/{process}")


@pytest.mark.parametrize("unit", [*PROCESSES, "backup"])
def test_a_unit_starts_the_release_that_the_link_names_and_not_the_link(unit, tmp_path):
    """Or what a running process imports and starts later would be of the next release."""
    release, link = tmp_path / "venv-1", tmp_path / "venv"
    (release / "bin").mkdir(parents=True)
    for name in ("python", "trunkline"):
        (release / "bin" / name).write_text("#!/bin/sh\necho $$ $0\n")
        (release / "bin" / name).chmod(0o755)
    link.symlink_to(release)
    # As systemd has it, $$ is a $.
    command = entry(unit_of(unit), "ExecStart").replace("/opt/trunkline/venv", str(link)).replace("$$", "$")
    started = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, text=True)
    said, _ = started.communicate()
    pid, program = said.split()
    assert Path(program).parent.parent == release
    assert int(pid) == started.pid, "systemd hears the process that it started only"


def test_the_target_takes_the_backups_with_it():
    """A restore begins with its stop."""
    for name in ("trunkline-backup.timer", "trunkline-backup.service"):
        assert ("PartOf", "trunkline.target") in entries(SYSTEMD / name)
    assert "trunkline-backup.timer" in entry(SYSTEMD / "trunkline.target", "Wants").split()


# What the programs of Debian's packages are told by default; an address for a cluster is one more to listen on.
DEFAULTS = {
    "prometheus": {"web.listen-address": "0.0.0.0:9090", "storage.tsdb.retention.time": "15d"},
    "prometheus-node-exporter": {"web.listen-address": "0.0.0.0:9100"},
    "prometheus-alertmanager": {
        "web.listen-address": "0.0.0.0:9093",
        "cluster.listen-address": "0.0.0.0:9094",
    },
}


def arguments(program: str) -> dict[str, str]:
    """What a program beside the suite is told by its drop-in."""
    drop_in = SYSTEMD / f"{program}.service.d" / "trunkline.conf"
    reset, command = [value for key, value in entries(drop_in) if key == "ExecStart"]
    assert not reset, "systemd would run both"
    path, *given_here = command.split()
    assert path == f"/usr/bin/{program}"
    told = (word.removeprefix("--").partition("=") for word in given_here)
    return DEFAULTS[program] | {name: value for name, _, value in told}


def test_no_program_beside_the_suite_takes_one_of_its_ports():
    assert {path.parent.name for path in SYSTEMD.glob("*.d/*")} == {f"{one}.service.d" for one in DEFAULTS}
    own = {"8080"} | {str(port) for _, *ports in PORTS.values() for port in ports if port}
    edge = json.loads((DEPLOY / "proxy" / "edge.json").read_text())
    told = [value for one in DEFAULTS for name, value in arguments(one).items() if "listen-address" in name]
    beside = [*filter(None, told), edge["listen"], edge["admin"]]
    ports = [address.rpartition(":")[2] for address in beside]
    assert len({*own, *ports}) == len(own) + len(ports)
    # Nothing but the proxy is for others to reach.
    assert all(address.startswith("127.0.0.1:") for address in beside if address != edge["listen"])
    # Prometheus asks and tells them there.
    assert arguments("prometheus-node-exporter")["web.listen-address"] == rules.MACHINE
    assert arguments("prometheus-alertmanager")["web.listen-address"] == rules.ALERTMANAGER
    asked = (DEPLOY / "grafana/provisioning/datasources/trunkline.yaml").read_text()
    assert f"http://{arguments('prometheus')['web.listen-address']}" in asked


def test_prometheus_keeps_what_the_rules_look_back_at():
    text = (DEPLOY / "prometheus" / "trunkline.rules.yaml").read_text()
    longest = max(map(int, re.findall(r"\b(\d+)d\b", text)))
    assert longest > 1
    for kept in (arguments("prometheus")["storage.tsdb.retention.time"], RETENTION):
        assert int(kept.removesuffix("d")) >= longest


def test_no_limit_of_one_address_is_less_than_that_of_all():
    """Behind a proxy, its address is everybody's."""
    told = values(CONFIGS)
    limits = {one.name: one.default for p in PROCESSES for one in declared(PROCESSES[p], p)}
    of_address = [name for name in limits if re.search("PER_ADDRESS|ADDRESS_PER", name)]
    assert len(of_address) >= 3
    for name in of_address:
        whole = limits.get(name.replace("_PER_ADDRESS", ""))
        assert told.get(name) == ("0" if name.endswith("_PER_HOUR") else str(whole)), name


@pytest.mark.parametrize("process", PROCESSES)
def test_a_unit_waits_for_the_drain(process):
    drain = next(
        one.default for one in declared(PROCESSES[process], process) if one.path == ("drain_seconds",)
    )
    assert int(entry(unit_of(process), "TimeoutStopSec")) >= drain + 5
    assert int(compose(process)["stop_grace_period"].removesuffix("s")) >= drain + 5


def test_what_a_unit_may_do_is_alike_in_all():
    """But for what a unit says for itself, which is before the lines that all share."""
    confined = [unit.read_text().partition("NoNewPrivileges=")[2].partition("UMask=")[0] for unit in UNITS]
    assert len({text.replace("CAP_NET_BIND_SERVICE", "") for text in confined if text}) == 1
    assert sum(bool(text) for text in confined) == len(PROCESSES) + 2


@pytest.mark.parametrize(
    "unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name
)
def test_every_variable_of_a_unit_is_a_setting_and_every_secret_comes_as_a_credential(unit):
    variables = set(re.findall(r"\bTRUNKLINE_[A-Z_]+", unit.read_text().replace("TRUNKLINE_<SERVICE>", "")))
    assert variables <= ALL
    credentials = {value.partition(":")[0] for key, value in entries(unit) if key == "LoadCredential"}
    for name, value in given(unit).items():
        assert name.endswith("_FILE")
        assert value.removeprefix("%d/") in credentials


def test_every_variable_of_the_file_is_a_setting_that_its_service_takes(tmp_path):
    text = ENVIRONMENT.read_text()
    named = re.findall(r"(?m)^#?(TRUNKLINE_[A-Z_]+)=", text)
    assert len(named) == len(set(named))
    # A secret may stand there as its file only.
    secret = {s.name for p in PROCESSES for s in declared(PROCESSES[p], p) if s.facts.secret}
    assert set(named) == {one for one in ALL if f"{one}_FILE" not in ALL or one in SUITE_WIDE} - secret
    told = {name: value.replace("/var/", f"{tmp_path}/var/") for name, value in from_file(text).items()}
    keys.create(tmp_path / "var/lib/trunkline/keys")
    for process, config in PROCESSES.items():
        (tmp_path / "var/lib/trunkline" / process).mkdir()
        load(config, process, told | (SECRETS if process == "tenant" else {}))


def test_a_shell_and_systemd_read_the_file_alike():
    """The document has a shell read it; with no # at all, as somebody may take all of them away."""
    text = re.sub(r"(?m)^#(?=TRUNKLINE_)", "", ENVIRONMENT.read_text())
    told = subprocess.run(
        ["sh", "-euc", f"set -a; . '{'/dev/stdin'}'; env"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert from_file(told).items() >= from_file(text).items()


def compose(process: str) -> dict:
    return yaml.safe_load(COMPOSE.read_text())["services"][process]


def test_compose_takes_the_file(tmp_path):
    """Docker Compose itself, or the loader that it is made of."""
    text = COMPOSE.read_text()
    for name in ("trunkline.env", "secrets.key", "operator.token"):
        (tmp_path / name).write_text("")
    text = re.sub(r"/etc/trunkline/(secrets/)?", f"{tmp_path}/", text)
    (tmp_path / "compose.yaml").write_text(text)
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        command = [docker, "compose", "--file", tmp_path / "compose.yaml", "config", "--quiet"]
    else:
        command = [tool("compose-go", shutil.which("go") is not None), tmp_path / "compose.yaml"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr + told.stdout
    (tmp_path / "compose.yaml").write_text(text.replace("stop_grace_period", "stop_grace"))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("process", PROCESSES)
def test_every_variable_of_a_container_is_a_setting_of_its_process(process, tmp_path):
    told = compose(process)
    own = variables_of(process)
    assert set(told["environment"]) - SUITE_WIDE.keys() <= own
    ports = {p["host"]: p["to"] for p in map(_port, told["ports"])}
    known = {one.name: one for one in declared(PROCESSES[process], process)}
    for name, value in told["environment"].items():
        if not name.endswith("_ADDRESS"):
            continue
        host, _, port = value.rpartition(":")
        peer = name.removeprefix(f"TRUNKLINE_{process.upper()}_").removesuffix("_ADDRESS").lower()
        if peer in ("grpc", "metrics", "http"):
            # Where it listens by default, which the proxy and Prometheus know, and everywhere in the container.
            assert (host, port) == ("0.0.0.0", str(known[name].default).rpartition(":")[2])
            assert (port in ports) == (peer != "grpc")
        elif peer != process:
            assert value == compose(peer)["environment"][f"TRUNKLINE_{peer.upper()}_GRPC_ADDRESS"].replace(
                "0.0.0.0", peer
            )
    assert told["user"] == "${OWNER:-10001:10001}"
    assert (told["read_only"], told["cap_drop"]) == (True, ["ALL"])
    # The probe asks a port that the process serves.
    assert any(f":{to}/readyz" in told["healthcheck"]["test"][-1] for to in ports.values())
    # What it writes is on a volume.
    mounts = {volume["target"] for volume in told["volumes"] if not volume.get("read_only")}
    for name, value in values(CONFIGS).items():
        path = value.removeprefix("sqlite:///")
        if name in own and path.startswith("/") and not name.endswith("_KEYS"):
            assert any(Path(path).is_relative_to(mount) for mount in mounts), name


def _port(text: str) -> dict[str, str]:
    assert text.startswith("127.0.0.1:"), "only this machine reaches it"
    _, host, to = text.split(":")
    assert host == to
    return {"host": host, "to": to}


def test_caddy_takes_its_file(tmp_path):
    caddy = tool("caddy", shutil.which("apt-get") is not None)
    told = subprocess.run(
        [caddy, "adapt", "--config", DEPLOY / "proxy" / "Caddyfile", "--validate"],
        capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "hooks.example.com" in told.stdout


def test_envoy_s_settings_name_what_its_unit_gives_it():
    edge = layout.read(DEPLOY / "proxy" / "edge.json")
    unit = unit_of("envoy")
    credentials = {value.partition(":")[0] for key, value in entries(unit) if key == "LoadCredential"}
    for path in (edge.certificate, edge.key):
        assert path.parent == Path("/run/credentials") / unit.name
        assert path.name in credentials
    assert dict(edge.endpoints) == layout.standard_endpoints()
    assert given(SYSTEMD / "tenant-edge.conf") == {"TRUNKLINE_TENANT_EDGE_TOKEN_FILE": "%d/edge.token"}
    assert layout.TOKEN_VARIABLE in entry(unit, "ExecStart")
