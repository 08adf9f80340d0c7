"""The ingest rate with 0, 100,000 and 1,000,000 events already stored; role `work` stopped.

Measured in turns, since machines are noisy. The tables are filled by SQL while the gateway is stopped: copies of one
real event with its receipt, its link and its finished job, under ids as random as real ones.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import sys
import time
from contextlib import closing
from pathlib import Path

from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.seed import seed_tenant

from tools.bench import Target, report
from tools.bench.calls import NO_CEILING, QUIET_LOGS, load
from tools.bench.ingest import signed
from tools.bench.traffic.load import saturate

FOLDER = Path("build/bench/growth")
STORED = {"rate_0": 0, "rate_100k": 100_000, "rate_1m": 1_000_000}
CONNECTIONS = 64
SECONDS = 6.0
WARM_SECONDS = 2.0
TURNS = 3
DISTINCT = 20_000  # of each size: most are new events, which the grown indexes take in
TARGETS = {"growth_ratio": Target(">", 0.90)}
# What must differ in a copy; every other column is the original's. `n` is the copy's number, from 1.
_NEW = {
    "receipts": {"seq": ":last + n", "receipt_id": "lower(hex(randomblob(16)))"},
    "events": {"event_id": "new.event", "first_seq": ":last + n", "job_id": "'j' || new.event"},
    "event_receipts": {"event_id": "new.event", "seq": ":last + n"},
    "jobs": {
        "job_id": "'j' || new.event",
        "subject": "new.event",
        "group_key": "'g' || new.event",
        "state": "'done'",
        "visible_at": "null",
        "lease_owner": "null",
        "lease_until": "null",
    },
}


def fill(path: Path, count: int) -> None:
    """Copy the first event of the store that often."""
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        for statement in ("pragma synchronous = off", "pragma cache_size = -400000", "begin"):
            store.execute(statement)
        (last,) = store.execute("select max(seq) from receipts").fetchone()
        (tenant, event, seq) = store.execute(
            "select tenant_id, event_id, first_seq from events order by first_seq limit 1"
        ).fetchone()
        store.execute("create temp table new (n integer primary key, event text)")
        store.execute(
            "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < :count)"
            " insert into new select n, lower(hex(randomblob(16))) from numbers",
            {"count": count},
        )
        originals = {
            "receipts": "seq = :seq",
            "events": "tenant_id = :tenant and event_id = :event",
            "event_receipts": "tenant_id = :tenant and event_id = :event and seq = :seq",
            "jobs": "tenant_id = :tenant and subject = :event",
        }
        for table, original in originals.items():
            columns = [row[1] for row in store.execute(f"pragma table_info({table})")]
            values = ", ".join(_NEW[table].get(column, f"old.{column}") for column in columns)
            store.execute(
                f"insert into {table} ({', '.join(columns)}) select {values} from new,"
                f" (select * from {table} where {original} limit 1) old",
                {"tenant": tenant, "event": event, "seq": seq, "last": last},
            )
        store.execute("update cursors set seq = :seq", {"seq": last + count})
        store.execute("commit")
        store.execute("pragma wal_checkpoint(truncate)")
    os.sync()  # else the disk is still busy with the filling while the next rate is taken


def grown(folder: Path, size: int) -> Suite:
    """A stopped suite with one real event and that many copies of it."""
    suite = Suite(folder, free_ports=True, env={**QUIET_LOGS, **NO_CEILING})
    suite.start("tenant", "gateway")
    try:
        source = seed_tenant(suite.http_url, suite.operator_token, "growth", "http://127.0.0.1:9").source(
            "callrail"
        )
        saturate(signed(source, 1, 700_000_000), 1, 1, folder)
        time.sleep(1)  # admitted
    finally:
        suite.stop()
    if size:
        begun = time.perf_counter()
        fill(folder / "gateway.db", size)
        print(f"{size:,} in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return suite


def rate(suite: Suite, first: int) -> float:
    """Webhooks acknowledged a second, of calls whose numbers begin with `first`."""
    suite.start("tenant", "gateway")
    try:
        tenant = f"turn-{first}"
        seeded = seed_tenant(suite.http_url, suite.operator_token, tenant, "http://127.0.0.1:9")
        source = seeded.source("callrail")
        saturate(signed(source, DISTINCT, first + 500_000), CONNECTIONS, WARM_SECONDS, suite.folder)
        seen = saturate(signed(source, DISTINCT, first), CONNECTIONS, SECONDS, suite.folder)
    finally:
        suite.stop()
    assert not seen.errors, f"{seen.errors} webhooks failed"
    return seen.per_s


def main() -> None:
    """Fill a store of each size, then measure them in turns; the ratio is the median of the turns' own."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    figures: dict[str, float] = {"load_before": load()}
    suites = {key: grown(FOLDER / key, size) for key, size in STORED.items()}
    rates: dict[str, list[float]] = {key: [] for key in STORED}
    for turn in range(TURNS):
        for key, suite in suites.items():
            rates[key].append(rate(suite, 800_000_000 + turn * 1_000_000))
            print(f"{key}: {rates[key][-1]:.0f}/s", file=sys.stderr, flush=True)
    figures |= {key: statistics.median(seen) for key, seen in rates.items()}
    turns = zip(rates["rate_1m"], rates["rate_0"], strict=True)
    figures["growth_ratio"] = statistics.median(large / empty for large, empty in turns)
    report("growth", figures, TARGETS)
    shutil.rmtree(FOLDER, ignore_errors=True)  # gigabytes


if __name__ == "__main__":
    main()
