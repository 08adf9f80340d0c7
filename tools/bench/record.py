"""What recording a call costs whose lead has 100,000 calls, and whose call has 100,000 events, against one of each.

A switchboard's number calls all day. The rows are seeded directly; then calls are recorded in turns by the service's
own method over a real file, so that the ratio is of the work and not of the way there.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import call_pb2, call_service_pb2, tenant_pb2
from trunkline_store import Database
from trunkline_tenant import schema
from trunkline_tenant.calls.service import CallService

from tools.bench import Target, report
from tools.bench.calls import load

FOLDER = Path("build/bench/record")
MANY = 100_000
TURNS = 400
TARGETS = {"record_hot_lead_ratio": Target("<", 1.3), "record_hot_call_ratio": Target("<", 1.3)}
_HOT, _COLD = "+14045550100", "+14045550101"
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_ROWS_A_STEP = 5_000


def request(number: str, call: str, event: str, second: int) -> call_service_pb2.RecordCallRequest:
    """What the gateway says of one event."""
    made = call_service_pb2.RecordCallRequest(
        parent="tenants/bench",
        call=call_pb2.Call(
            provider=provider_pb2.PROVIDER_CALLRAIL,
            provider_account="ACC1",
            provider_call_id=call,
            caller_number=number,
            caller_name="Ann" if second % 2 else "",
            lead_score=second % 101,
        ),
        event=f"tenants/bench/events/{event}",
        rank=1,
    )
    made.event_time.FromDatetime(_BEGUN + timedelta(seconds=second))
    return made


def multiply(conn: Connection, table: sa.Table, key: str, number: int, changes: dict[str, Any]) -> None:
    """Add copies of the one row whose `key` has that value, each with a key and with times of its own."""
    row = conn.execute(sa.select(table).where(table.c[key] == changes.pop("of"))).mappings().one()
    for start in range(0, number, _ROWS_A_STEP):
        copies = [
            {**row, **{name: make(n) for name, make in changes.items()}}
            for n in range(start, min(number, start + _ROWS_A_STEP))
        ]
        conn.execute(sa.insert(table), copies)


async def seed(db: Database, calls: CallService) -> None:
    """One lead with many calls, one call with many events; the lead is counted anew by its next call."""
    now = {"create_time": _BEGUN, "update_time": _BEGUN}
    tenant = {"tenant_id": "bench", "display_name": "", "state": tenant_pb2.TENANT_STATE_ACTIVE}
    tenant |= {"retention": b"", "version": 1, **now}
    await db.write(lambda conn: conn.execute(schema.tenants.insert(), tenant))
    hot = await calls.RecordCall(request(_HOT, "hot", "e-hot", 0), None)
    await calls.RecordCall(request(_COLD, "cold", "e-cold", 0), None)
    await calls.RecordCall(request("", "hot-events", "e-events", 0), None)
    lead = hot.name.rpartition("/")[2]
    start = {
        "of": lead,
        "call_id": lambda n: f"seeded{n}",
        "start_time": lambda n: _BEGUN + timedelta(seconds=n),
    }
    await db.write(lambda conn: multiply(conn, schema.calls, "call_id", MANY, start))
    event = {"of": "e-events", "event_id": lambda n: f"seeded{n}"}
    await db.write(lambda conn: multiply(conn, schema.call_events, "event_id", MANY, event))
    await db.write(lambda conn: conn.execute(schema.leads.update().values(tally=None)))


async def measure() -> dict[str, float]:
    """Medians in milliseconds, taken in turns."""
    async with await Database.open(
        f"sqlite:///{FOLDER}/tenant.db", schema.metadata, migrations="trunkline_tenant.migrations"
    ) as db:
        calls = CallService(db)
        await seed(db, calls)
        seen: dict[str, list[float]] = {"one": [], "lead": [], "call": [], "event": []}
        for turn in range(TURNS + 20):
            told = {
                "one": request(f"+1404556{turn:04}", f"one{turn}", f"e-one{turn}", turn),
                "lead": request(_HOT, f"hot{turn}", f"e-hot{turn}", turn),
                "event": request("", "cold-events", f"e-cold{turn}", 1),
                "call": request("", "hot-events", f"e-more{turn}", 1),
            }
            for name, said in told.items():
                begun = time.perf_counter()
                await calls.RecordCall(said, None)
                if turn >= 20:  # caches are warm, and the lead was counted
                    seen[name].append((time.perf_counter() - begun) * 1000)
        (count,) = await db.read(
            lambda conn: conn.execute(sa.select(sa.func.max(schema.leads.c.call_count))).one()
        )
    assert count == MANY + TURNS + 21, count
    middle = {name: statistics.median(times) for name, times in seen.items()}
    return {
        "record_ms": middle["one"],
        "record_hot_lead_ms": middle["lead"],
        "record_hot_lead_ratio": middle["lead"] / middle["one"],
        "record_event_ms": middle["event"],
        "record_hot_call_ms": middle["call"],
        "record_hot_call_ratio": middle["call"] / middle["event"],
    }


def main() -> None:
    """Seed and measure."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    report("record", {"load_before": load(), **asyncio.run(measure())}, TARGETS)
    shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
