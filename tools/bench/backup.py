"""How long a backup and a restore of 100,000 calls take, and what a backup costs the webhooks that come meanwhile.

One real call with recording, transcript and analysis is copied by SQL in all four databases, its sound file under as
many names as files of their own. `steady_p99_ms` is at a constant 2,000 webhooks a second, `backup_p99_ms` the same
with backups made one after the other meanwhile.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from trunkline_cli.services import COMMANDS
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.seed import SeededSource, seed_tenant

from tools.bench import Target, report
from tools.bench.calls import load, running
from tools.bench.growth import fill as fill_gateway
from tools.bench.ingest import signed
from tools.bench.traffic.steady import finished, start_steady

FOLDER = Path("build/bench/backup")
CALLS = 100_000
STEADY_PER_S = 2_000
STEADY_SECONDS = 15.0
TARGETS = {"restore_s": Target("<", 60), "errors": Target("==", 0)}
# Columns that differ in a copy, by service and table; every other one is the original's.
_NEW = {
    "tenant": {
        "calls": {
            "call_id": "'c' || n",
            "lead_id": "'l' || n",
            "provider_call_id": "'CAL' || n",
            "caller_number": "'+1' || (3000000000 + n)",
        },
        "leads": {
            "lead_id": "'l' || n",
            "last_call_id": "'c' || n",
            "phone_number": "'+1' || (3000000000 + n)",
        },
        "call_aliases": {"alias_id": "'a' || n", "call_id": "'c' || n"},
        "call_events": {"call_id": "'c' || n", "event_id": "'e' || n"},
    },
    "audio": {
        "recordings": {"recording_id": "'r' || n"},
        "transcripts": {"transcript_id": "'t' || n", "recording_id": "'r' || n"},
    },
    "ai": {"analyses": {"analysis_id": "'x' || n", "call_id": "'c' || n"}},
}


def fill(folder: Path, count: int) -> None:
    """Make that many copies of the one call in a stopped suite's folder."""
    fill_gateway(folder / "gateway.db", count)
    for service, tables in _NEW.items():
        with closing(sqlite3.connect(folder / f"{service}.db", isolation_level=None)) as store:
            store.execute("pragma synchronous = off")
            store.execute("pragma foreign_keys = off")
            store.execute("begin")
            for table, new in tables.items():
                columns = [row[1] for row in store.execute(f"pragma table_info({table})")]
                values = ", ".join(new.get(column, f'old."{column}"') for column in columns)
                named = ", ".join(f'"{column}"' for column in columns)
                store.execute(
                    "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ?)"
                    f" insert into {table} ({named}) select {values}"
                    f" from numbers, (select * from {table} limit 1) old",
                    (count,),
                )
            store.execute("commit")
            store.execute("pragma wal_checkpoint(truncate)")
    (original,) = (folder / "blobs").glob("t.*/r.*")
    for number in range(1, count + 1):
        shutil.copyfile(original, original.with_name(f"r.r{number}"))
    os.sync()


def tool(name: str, *arguments: str) -> float:
    """Run a command of `trunkline` over the folder; seconds, the interpreter's start included."""
    since = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "trunkline_cli", name, "--state", str(FOLDER), *arguments],
        check=True, stdout=sys.stderr,
    )  # fmt: skip
    return time.monotonic() - since


def steady(suite: Suite, backups: bool) -> dict[str, float]:
    """A constant rate of webhooks; with backups meanwhile when asked."""
    hooks = signed(_source(suite), 20_000, 810_000_000 if backups else 820_000_000)
    process = start_steady(hooks, STEADY_PER_S, STEADY_SECONDS, FOLDER)
    made = 0
    while backups and process.poll() is None:
        tool("backup", "--to", str(FOLDER / "backups" / f"under-load-{made}"))
        made += 1
    seen = finished(process)
    name = "backup" if backups else "steady"
    return {f"{name}_p50_ms": seen.p50_ms, f"{name}_p99_ms": seen.p99_ms, f"{name}_errors": seen.errors}


def _source(suite: Suite) -> SeededSource:
    seeded = seed_tenant(suite.http_url, suite.operator_token, "load", "http://127.0.0.1:9")
    return seeded.source("callrail")


def main() -> None:
    """One call, its copies, a backup, a restore, and the suite again."""
    figures: dict[str, float] = {"load_before": load(), "calls": CALLS}
    with running(FOLDER, {}) as bench:
        bench.post(bench.call("acme", "400000001"))
        bench.wait_recorded("acme", ["400000001"], 60)
        bench.suite.stop()
        fill(FOLDER, CALLS)
        files = list(FOLDER.glob("*.db"))
        figures["databases_mb"] = sum(path.stat().st_size for path in files) / 1e6
        figures["backup_s"] = tool("backup", "--to", str(FOLDER / "backups" / "first"))
        figures["restore_s"] = tool("restore", str(FOLDER / "backups" / "first"))
        bench.suite.start("tenant", "gateway")
        figures |= steady(bench.suite, backups=False)
        figures |= steady(bench.suite, backups=True)
        bench.suite.start(*(name for name in COMMANDS if name not in ("tenant", "gateway")))
    figures["errors"] = figures.pop("steady_errors") + figures.pop("backup_errors")
    shutil.rmtree(FOLDER)
    report("backup", figures, TARGETS)


if __name__ == "__main__":
    main()
