"""The store is taken away under load: what was acknowledged becomes an event, once."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import World
from tests.e2e.posting import Told, assert_each_is_one_event, posting, small_call
from tools.suite.processes import Suite
from tools.suite.seed import seed_tenant


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock, as a backup tool gone wrong does."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        yield
        conn.execute("ROLLBACK")


def metric(world: World, name: str) -> float:
    text = httpx.get(f"{world.suite.metrics_url()}/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def test_while_the_store_is_locked_webhooks_are_acknowledged_and_become_events_once(world):
    with posting(world, senders=8) as told:
        time.sleep(0.3)
        with locked(world.suite.folder / "gateway.db"):
            time.sleep(3)
            ready = httpx.get(f"{world.suite.http_url}/readyz")
            assert (ready.status_code, ready.text) == (200, "ok\n"), "spooled is kept: send more"
            assert "spool:" in httpx.get(f"{world.suite.metrics_url()}/readyz").text
            assert metric(world, "trunkline_spool_rows") > 0
            assert metric(world, "trunkline_store_circuit_open") == 1
        world.wait(lambda: metric(world, "trunkline_store_circuit_open") == 0, "the store to be used again")
        time.sleep(0.3)
    assert told.errors == told.refused == []
    assert len(told.receipts) > 100
    assert max(told.seconds) < 0.9, "half a second for the store, then the spool"
    assert sorted(told.seconds)[len(told.seconds) // 2] < 0.1, "the outage is waited for once"
    assert_each_is_one_event(world, told)
    world.wait(lambda: metric(world, "trunkline_spool_rows") == 0, "an empty spool")
    assert httpx.get(f"{world.suite.metrics_url()}/readyz").text == "ok\n"


def test_what_was_spooled_survives_kill_9(world):
    with posting(world, senders=8) as told, locked(world.suite.folder / "gateway.db"):
        world.wait(lambda: metric(world, "trunkline_spool_rows") > 40, "receipts in the spool")
        world.suite.kill("gateway")
    world.suite.start("gateway")
    assert_each_is_one_event(world, told)
    world.wait(lambda: metric(world, "trunkline_spool_rows") == 0, "an empty spool")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs rights; test_gateway_spool.py injects the error")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(path).f_bavail == 0


def test_on_a_full_disk_the_spool_takes_over_until_it_is_full_too_and_drains_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        settings = {
            "TRUNKLINE_GATEWAY_STORE_URL": f"sqlite:///{disk}/gateway.db",
            "TRUNKLINE_GATEWAY_SPOOL_PATH": str(tmp_path / "elsewhere" / "spool.db"),
            "TRUNKLINE_GATEWAY_SPOOL_MAX_BYTES": "200000",
        }
        suite = Suite(tmp_path / "suite", free_ports=True, env=settings)
        try:
            suite.start("tenant", "gateway")
            tenant = seed_tenant(suite.http_url, suite.operator_token, "acme", "http://127.0.0.1:9")
            world = World(suite, None, [tenant])
            told = Told()

            def post(count: int) -> None:
                for _ in range(count):
                    told.take(world.post(small_call(world, tenant.source("callrail"), note="x" * 3000)))

            post(5)
            fill(disk / "filler")
            post(30)
            assert told.refused == []
            assert metric(world, "trunkline_spool_rows") > 20
            post(50)
            assert set(told.refused) == {503}
            assert (
                "it is full" in httpx.get(f"{suite.metrics_url()}/readyz").text
                or metric(world, "trunkline_spool_bytes") > 190_000
            )
            (disk / "filler").unlink()
            world.wait(lambda: metric(world, "trunkline_spool_rows") == 0, "an empty spool")
            refused = len(told.refused)
            post(5)
            assert len(told.refused) == refused
            assert_each_is_one_event(world, told, disk / "gateway.db")
        finally:
            codes = suite.stop()
        assert set(codes.values()) == {0}
