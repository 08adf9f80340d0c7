"""What was acknowledged survives kill -9."""

import sqlite3
import subprocess
import sys
from pathlib import Path

from trunkline_store import Database
from trunkline_store.testing.conformance import METADATA, ids, labels

CHILD = Path(__file__).with_name("store_crash_child.py")


async def test_every_resolved_write_survives_kill_9(url, tmp_path):
    acknowledged = []
    for until in (1500, 400, 3000):  # each start recovers what the kill before left
        child = subprocess.Popen([sys.executable, str(CHILD), url], stdout=subprocess.PIPE)
        try:
            lines = [child.stdout.readline() for _ in range(until)]
        finally:
            child.kill()
        lines += child.stdout.read().splitlines(keepends=True)  # printed before the kill, still in the pipe
        child.wait()
        child.stdout.close()
        acknowledged += [line.decode().strip() for line in lines if line.endswith(b"\n")]

    # The killed process's lock is gone with it.
    async with await Database.open(url, METADATA) as db:
        appended = await db.read(labels)
        stored = set(appended) | set(await db.read(ids))
    assert len(acknowledged) >= 4900
    assert any(label.startswith("w") for label in acknowledged)
    assert set(acknowledged) - stored == set()
    assert len(appended) == len(set(appended))
    with sqlite3.connect(tmp_path / "store.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
