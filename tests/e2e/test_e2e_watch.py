"""A real Prometheus over the running suite answers every question of every panel, recorded rule, and alert."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.demo import webhook_of
from trunkline_cli.suite.processes import free_port

from tests.e2e.conftest import World
from tools.install import install_from_debian
from tools.packages import ROOT
from tools.watch.answers import unanswered
from tools.watch.prometheus import Prometheus, PrometheusError

EVERY = 1
"""Seconds between scrapes."""
# Long enough that both waves of webhooks are in it.
WINDOW = "2m"


@pytest.fixture(scope="module")
def program() -> Path:
    tool = install_from_debian("prometheus")
    if tool is None:
        assert os.environ.get("CI") != "true", "prometheus is not installed; see `make tools`"
        pytest.skip("prometheus is not installed: `make tools` unpacks it where apt-get is")
    return tool


def wave(world: World, samples: list[dict[str, Any]], first: int) -> None:
    """Post calls with recordings, which are worked off, and without, and wrong signatures; read the API."""
    tenant = world.tenants[0]
    receipts = []
    for index, sample in enumerate(samples, first):
        _, hook = webhook_of(sample, index, tenant, world.recordings)
        receipts.append(world.post(hook).json()["receiptId"])
    for source in (one for tenant in world.tenants for one in tenant.sources if one.provider == "callrail"):
        call = webhooks.callrail_call(source, world.call_id(), recorded=False)
        hook = webhooks.callrail(source, "post_call", call)
        receipts.append(world.post(hook).json()["receiptId"])
        assert web.post(hook.url, content=hook.body, headers={"signature": "d3Jvbmc="}).status_code == 401
    world.get(tenant, f"tenants/{tenant.name}/calls")
    for receipt in receipts[: len(samples)]:
        world.finished(tenant, receipt)


@pytest.mark.timeout(180)
def test_a_prometheus_answers_every_panel_recorded_rule_and_alert(
    world: World, samples: dict[str, dict[str, Any]], program: Path, tmp_path: Path
) -> None:
    short = sorted(
        (one for one in samples.values() if one["language"].startswith("en") and one["seconds"] > 3),
        key=lambda one: one["seconds"],
    )
    address = f"127.0.0.1:{free_port()}"
    with Prometheus(program, tmp_path, world.suite.metrics, address, EVERY) as prometheus:
        world.wait(lambda: len(prometheus.asked("up == 1")) == len(world.suite.metrics), "five scrapes")
        # A rate is known once a counter was seen twice, with different values.
        wave(world, short[:1], 7_000)
        time.sleep(2 * EVERY)
        wave(world, short[1:2], 8_000)
        until, missing = time.monotonic() + 40, ["nothing was asked yet"]
        while missing and time.monotonic() < until:
            wave(world, [], 9_000)
            time.sleep(EVERY)
            missing = unanswered(prometheus, WINDOW)
        assert missing == []


def test_what_another_program_serves_is_not_taken_for_our_prometheus(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(PrometheusError, match=f"in use.*\n.*{address}  .pid {os.getpid()}"):
            Prometheus(Path("/bin/false"), tmp_path, {}, address).__enter__()
    assert not list(tmp_path.iterdir())


_STARTER = """
import sys, time
from pathlib import Path
from tools.watch.prometheus import started
started(["sh", "-c", "echo $$; exec sleep 600"], {}, Path(sys.argv[1]))
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_beside_the_suite_ends_with_its_starter_however_that_one_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    starter = subprocess.Popen([sys.executable, "-c", _STARTER, log], cwd=ROOT)
    until = time.monotonic() + 60
    while not (log.exists() and log.read_text().endswith("\n")):
        assert starter.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    program = Path("/proc") / log.read_text().strip()
    assert program.exists()
    starter.send_signal(number)
    starter.wait()
    while program.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


_ENDED_AT_ONCE = """
import os, signal, subprocess, sys
from tools.watch import beside

class EndedAtOnce(subprocess.Popen):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        os.kill(os.getpid(), signal.SIGTERM)

subprocess.Popen = EndedAtOnce
sys.exit(beside.main(["sleep", "60"]))
"""


def test_a_program_is_not_left_behind_by_a_signal_that_comes_as_it_starts() -> None:
    done = subprocess.run([sys.executable, "-c", _ENDED_AT_ONCE], cwd=ROOT, check=False, timeout=50)
    assert done.returncode == 128 + signal.SIGTERM
