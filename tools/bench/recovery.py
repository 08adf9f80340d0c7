"""How long work stands still after a crash, and how fast a full spool empties.

`first_job_s`: from `kill -9` of one of two workers to the first job that the other does. `takeover_s`: to the first
of the dead worker's own jobs that the other does, which waits for its lease to run out (`lease_s`).
`spool_drain_s`: 50,000 receipts in the spool because the store's file was locked, from its release until the spool
is empty and each is in the store.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
from trunkline_cli.services import COMMANDS
from trunkline_cli.suite import webhooks
from trunkline_gateway.pipeline.config import WorkerConfig

from tools.bench import report
from tools.bench.calls import Bench, load, running
from tools.bench.traffic.load import send_each

FOLDER = Path("build/bench/recovery")
STAGES = {
    "TRUNKLINE_AUDIO_ENGINE": "tests.standins.instant_audio:create_50ms",
    "TRUNKLINE_AI_ENGINE": "tests.standins.instant_ai:create_50ms",
}
CALLS = 400
SPOOLED = 50_000
CONNECTIONS = 32
_ids = itertools.count(400_000_000)
_HELD = "select job_id from jobs where state = 'leased' and lease_owner like ?"
_DONE = (
    "select min(updated_at) from jobs where state = 'done' and updated_at > ?"
    " and job_id in (select value from json_each(?))"
)


def until(look: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until `look` says so; the time then (Unix seconds)."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.01)
    return time.time()


def takeover(bench: Bench) -> dict[str, float]:
    """Kill a worker under load beside another one."""
    suite = bench.suite
    env = {**suite.environment(), "TRUNKLINE_WORKER_METRICS_ADDRESS": ""}
    with (FOLDER / "log" / "other.log").open("wb") as log:
        other = subprocess.Popen([sys.executable, "-m", *COMMANDS["worker"]], env=env, stdout=log, stderr=log)
    try:
        tenants = [f"many-{n}" for n in range(5)]
        for n in range(CALLS):
            bench.post(bench.call(tenants[n % len(tenants)], str(next(_ids))))
        with closing(sqlite3.connect(f"file:{suite.folder / 'gateway.db'}?mode=ro", uri=True)) as store:
            store.isolation_level = None
            mine = (f"%-{suite.running['worker'].pid}-%",)
            held: list[str] = []

            def holds() -> bool:
                held[:] = [row[0] for row in store.execute(_HELD, mine)]
                return len(held) >= 4

            until(holds, 20, "the worker to hold jobs")
            killed = time.time()
            suite.kill("worker")
            # What it reported between the look and the kill is not among those that wait for its lease.
            held[:] = [row[0] for row in store.execute(_HELD, mine)]
            every = json.dumps([row[0] for row in store.execute("select job_id from jobs")])

            def done(jobs: str) -> float | None:
                (at,) = store.execute(_DONE, (killed * 1e6, jobs)).fetchone()
                return None if at is None else float(at) / 1e6 - killed

            until(lambda: done(every) is not None, 60, "another worker's job")
            until(lambda: done(json.dumps(held)) is not None, 120, "a job of the dead worker")
            return {
                "first_job_s": done(every) or 0.0,
                "takeover_s": done(json.dumps(held)) or 0.0,
                "lease_s": WorkerConfig.lease_seconds,
            }
    finally:
        other.terminate()
        other.wait(20)


def drain(bench: Bench) -> dict[str, float]:
    """Lock the store's file, fill the spool, release it."""
    suite = bench.suite
    source = bench.tenant("spooled").source("callrail")
    hooks = [
        webhooks.callrail(source, "pre_call", webhooks.callrail_call(source, str(next(_ids)), recorded=False))
        for _ in range(SPOOLED)
    ]
    path = suite.folder / "gateway.db"
    before = _count(path)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        sent = json.loads(send_each(hooks, CONNECTIONS, FOLDER).communicate(timeout=600)[0])
        waiting = _waiting(suite.metrics_url())
        lock.execute("ROLLBACK")
    released = time.time()
    emptied = until(lambda: _waiting(suite.metrics_url()) == 0, 600, "an empty spool")
    stored = _count(path) - before
    return {
        "spooled": waiting,
        "spool_taken_per_s": sent["per_s"],
        "spool_drain_s": emptied - released,
        "spool_lost": SPOOLED - stored,
        "spool_errors": sent["errors"],
    }


def _count(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        (count,) = store.execute("select count(*) from receipts").fetchone()
    return int(count)


def _waiting(metrics_url: str) -> float:
    lines = httpx.get(f"{metrics_url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("trunkline_spool_rows"))


def main() -> None:
    """Crash, then fill and drain."""
    figures: dict[str, float] = {"load_before": load()}
    with running(FOLDER, STAGES) as bench:
        figures |= takeover(bench)
    with running(FOLDER, {}, "tenant", "gateway") as bench:
        figures |= drain(bench)
    report("recovery", figures, {})


if __name__ == "__main__":
    main()
