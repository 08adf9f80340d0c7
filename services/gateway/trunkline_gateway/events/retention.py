"""Deletes events that are past their days, with their receipts; never one that is not done or dead.

The same sweep on every engine: what may go depends on rows of other tables, which no ROW DELETION POLICY looks at.
Rejections and replays depend on nothing, and go by such a policy where the engine has them.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

import sqlalchemy as sa
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter
from trunkline_runtime.process.periodic import set_aside
from trunkline_store import Database
from trunkline_store.declare import by_index
from trunkline_store.records.deletion import delete_all, delete_keys, owners
from trunkline_store.records.expiry import overdue

from trunkline_gateway.events.deletion import ENDED, EVENTS_A_STEP, delete_events
from trunkline_gateway.events.receipts import SET_ASIDE
from trunkline_gateway.events.rows import joined
from trunkline_gateway.intake.kept import WEIGHT, add_kept
from trunkline_gateway.schema import (
    REPLAYS_KEPT_DAYS,
    eventless_receipts,
    events,
    jobs,
    receipts,
    rejections,
    replays,
)

log = get_logger(__name__)

EXPIRED = counter("trunkline_expired_total", "What was deleted when its days were over.", ["kind"])

SWEEP = "sweep"
"""The kind of task that deletes what is past its days."""
_RECEIPTS_A_STEP = 100  # each with its mark


async def sweep(db: Database) -> None:
    """Make one pass over everything, in small transactions."""
    now = db.clock.now()
    removed: dict[str, int] = defaultdict(int)
    async for tenant in owners(db, events):
        with set_aside("retention", tenant=tenant, of="events"):
            await _sweep_events(db, tenant, now, removed)
    async for tenant in owners(db, eventless_receipts):
        late = overdue(eventless_receipts, tenant, now)
        with set_aside("retention", tenant=tenant, of="receipts"):
            removed["receipts"] += await delete_eventless(db, late)
    if not db.features.deletes_expired:
        async for tenant in owners(db, rejections):
            late = overdue(rejections, tenant, now)
            with set_aside("retention", tenant=tenant, of="rejections"):
                removed["rejections"] += await delete_all(db, rejections, late)
        ended = replays.c.finished_at <= now - timedelta(days=REPLAYS_KEPT_DAYS)
        with set_aside("retention", of="replays"):
            removed["replays"] = await delete_all(db, replays, ended)
    for kind, count in removed.items():
        EXPIRED.labels(kind).inc(count)
    if any(removed.values()):
        log.info("expired_deleted", **removed)


async def _sweep_events(db: Database, tenant: str, now: datetime, removed: dict[str, int]) -> None:
    due = (
        by_index(sa.select(events.c.event_id).select_from(joined()), events, "events_by_expiry")
        .where(events.c.tenant_id == tenant, events.c.expire_at <= now, jobs.c.state.in_(ENDED))
        .order_by(events.c.expire_at)
        .limit(EVENTS_A_STEP)
    )
    while found := await db.scan(lambda conn: conn.execute(due).scalars().all()):
        step = await db.write(lambda conn: delete_events(conn, tenant, found), background=True)
        removed["events"] += step.events
        removed["receipts"] += step.receipts


async def delete_eventless(db: Database, condition: sa.ColumnElement[bool], most: int | None = None) -> int:
    """Delete receipts that are no event and fit, `most` at most; how many."""
    query = (
        sa.select(eventless_receipts.c.seq, eventless_receipts.c.tenant_id)
        .where(condition)
        .limit(_RECEIPTS_A_STEP)
    )
    there = receipts.join(eventless_receipts, receipts.c.seq == eventless_receipts.c.seq)

    def step(conn: sa.Connection) -> int:
        found = conn.execute(query).all()
        seqs = [row.seq for row in found]
        keys = [(row.seq,) for row in found]
        tenants = {row.tenant_id for row in found}
        counted = (
            sa.select(eventless_receipts.c.tenant_id, sa.func.sum(WEIGHT).label("weight"))
            .select_from(there)
            .where(receipts.c.seq.in_(seqs), eventless_receipts.c.tenant_id.in_(tenants), SET_ASIDE)
            .group_by(eventless_receipts.c.tenant_id)
        )
        add_kept(conn, {row.tenant_id: -row.weight for row in conn.execute(counted) if row.tenant_id})
        delete_keys(conn, receipts, keys)
        delete_keys(conn, eventless_receipts, keys)
        return len(found)

    total = 0
    while most is None or total < most:
        done = await db.write(step, background=True)
        total += done
        if done < _RECEIPTS_A_STEP:
            break
    return total
