"""What the running suite leaves on the disk is for its own user alone, and what it starts is told no secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trunkline_cli.suite import web
from trunkline_cli.suite.processes import Suite

from tests.e2e.conftest import World
from tests.e2e.posting import small_call
from tests.forked import launch

SECRETS = ("OPERATOR_TOKEN", "SECRET_KEYS", "TOKEN")


def readable_by_others(folder: Path) -> list[str]:
    found = [folder, *folder.rglob("*")]
    return [f"{path} {path.lstat().st_mode & 0o777:o}" for path in found if path.lstat().st_mode & 0o077]


def children(pid: int) -> list[int]:
    """Every process below one."""
    direct = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return direct + [below for child in direct for below in children(child)]


def test_every_file_and_folder_of_the_state_is_its_owners_alone(world: World) -> None:
    for tenant in world.tenants:
        assert world.post(small_call(world, tenant.source("callrail"))).status_code == 202
    state = world.suite.folder
    world.wait(lambda: (state / "gateway.sources").exists(), "the sources on the disk")
    done = subprocess.run(
        [sys.executable, "-m", "trunkline_cli", "backup", "--state", str(state)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in state.rglob("*")}
    assert {"gateway.db", "gateway.db-wal", "gateway.db-shm", "gateway.db.spool", "gateway.db.lock"} <= names
    assert {
        "gateway.sources",
        "secrets.key",
        "gateway.key",
        "trusted.json",
        "operator.token",
        "audio-scratch",
        "manifest.json",
    } <= names
    assert readable_by_others(state) == []


def test_a_state_of_an_earlier_release_becomes_private_at_its_start(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "var", free_ports=True, launch=launch)
    try:
        suite.start("tenant")
        suite.kill("tenant")  # its log stays
        for path in suite.folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        suite.folder.chmod(0o755)
        suite = Suite(suite.folder, free_ports=True, launch=launch)
        suite.start("tenant")
        assert suite.folder.stat().st_mode & 0o077 == 0
        loose = [name for name in readable_by_others(suite.folder) if ".db" in name]
        assert loose == []
    finally:
        suite.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process was started with")
def test_what_a_service_starts_is_told_none_of_its_secrets(world: World) -> None:
    below = [pid for process in world.suite.running.values() for pid in children(process.pid)]
    assert below, "audio has decoders and speech workers"
    for pid in below:
        names = [entry.split("=", 1)[0] for entry in Path(f"/proc/{pid}/environ").read_text().split("\0")]
        told = [name for name in names if name.startswith("TRUNKLINE_") or name.endswith(SECRETS)]
        assert told == [], Path(f"/proc/{pid}/cmdline").read_text()


def test_metrics_and_reasons_are_off_the_public_address(world: World) -> None:
    public, own = world.suite.http_url, world.suite.metrics_url()
    assert web.get(f"{public}/metrics").status_code == 404
    assert web.get(f"{public}/readyz").text == "ok\n"
    assert "trunkline_receipts_total" in web.get(f"{own}/metrics").text
    for name in world.suite.metrics:
        if name != "worker":
            assert web.get(f"{world.suite.metrics_url(name)}/readyz").text == "ok\n", name


def test_the_start_of_a_process_sets_its_umask(tmp_path: Path) -> None:
    script = (
        "import os; from trunkline_runtime.rpc.server import run\n"
        "async def main(): print(oct(os.umask(0)))\nrun(main)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ})
    assert done.stdout.strip() == "0o77", done.stderr
