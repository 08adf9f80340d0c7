"""The store is taken away under load: what was acknowledged becomes an event, once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from trunkline_cli.suite import web

from tests.e2e.conftest import World
from tests.e2e.posting import assert_each_is_one_event, posting
from tools.packages import ROOT


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock, as a backup tool gone wrong does."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        yield
        conn.execute("ROLLBACK")


def metric(world: World, name: str) -> float:
    text = web.get(f"{world.suite.metrics_url()}/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def test_while_the_store_is_locked_webhooks_are_acknowledged_and_become_events_once(world):
    with posting(world, senders=8) as told:
        time.sleep(0.3)
        with locked(world.suite.folder / "gateway.db"):
            world.wait(lambda: metric(world, "trunkline_store_circuit_open") == 1, "the store to be given up")
            before = len(told.receipts)
            world.wait(lambda: len(told.receipts) > before + 80, "webhooks without a store")
            ready = web.get(f"{world.suite.http_url}/readyz")
            assert (ready.status_code, ready.text) == (200, "ok\n"), "spooled is kept: send more"
            assert "spool:" in web.get(f"{world.suite.metrics_url()}/readyz").text
            assert metric(world, "trunkline_spool_rows") > 0
        world.wait(lambda: metric(world, "trunkline_store_circuit_open") == 0, "the store to be used again")
        time.sleep(0.3)
    assert told.errors == told.refused == []
    assert len(told.receipts) > 100
    # Half a second for the store, then the spool: that long each sender waits as the outage begins, and once more at
    # most, with what was under way.
    assert sum(seconds > 0.45 for seconds in told.seconds) <= 2 * 8, "the outage is waited for once"
    assert max(told.seconds) < 5
    assert_each_is_one_event(world, told)
    world.wait(lambda: metric(world, "trunkline_spool_rows") == 0, "an empty spool")
    assert web.get(f"{world.suite.metrics_url()}/readyz").text == "ok\n"


def test_what_was_spooled_survives_kill_9(world):
    with posting(world, senders=8) as told, locked(world.suite.folder / "gateway.db"):
        world.wait(lambda: metric(world, "trunkline_spool_rows") > 40, "receipts in the spool")
        world.suite.kill("gateway")
    world.suite.start("gateway")
    assert_each_is_one_event(world, told)
    world.wait(lambda: metric(world, "trunkline_spool_rows") == 0, "an empty spool")


def test_before_a_replica_goes_its_spool_is_emptied(world):
    """A scale-down as its manifest has it: the hook, SIGTERM once that has ended, and no next process.

    The hook waits for five seconds at least; here for one.
    """
    manifest = yaml.safe_load((ROOT / "k8s/base/gateway/statefulset.yaml").read_text())
    (own,) = manifest["spec"]["template"]["spec"]["containers"]
    python, *words = own["lifecycle"]["preStop"]["exec"]["command"]
    assert python == "python"
    metrics = world.suite.metrics_url().removeprefix("http://")
    with posting(world, senders=8) as told, locked(world.suite.folder / "gateway.db"):
        world.wait(lambda: metric(world, "trunkline_spool_rows") > 40, "receipts in the spool")
        # Its endpoint is gone: no more requests come.
        told.enough.set()
        command = [sys.executable, *words, "--least", "1"]
        hook = subprocess.Popen(command, env={"TRUNKLINE_GATEWAY_METRICS_ADDRESS": metrics})
        time.sleep(2.5)
        assert hook.poll() is None, "one second is over, and the store does not take the spool"
    assert hook.wait(60) == 0
    assert metric(world, "trunkline_spool_rows") == 0
    assert world.suite.stop("gateway") == {"gateway": 0}
    world.suite.start("gateway")
    assert_each_is_one_event(world, told)
