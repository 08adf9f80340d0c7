"""Deletes events that are past their days, with their receipts; never one that is not done or dead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter
from trunkline_runtime.logs import get_logger
from trunkline_store import Database
from trunkline_store.deletion import delete_all, delete_keys

from trunkline_gateway.event_deletion import ENDED, EVENTS_A_STEP, Deleted, delete_events
from trunkline_gateway.event_rows import joined
from trunkline_gateway.schema import eventless_receipts, events, jobs, receipts, rejections, replays

log = get_logger(__name__)

EXPIRED = Counter("trunkline_expired_total", "What was deleted when its days were over.", ["kind"])

_REPLAYS_KEPT = timedelta(days=30)
_RECEIPTS_A_STEP = 100  # each with its mark


async def sweep(db: Database) -> None:
    """Make one pass over everything, in small transactions."""
    now = db.clock.now()
    removed: dict[str, int] = defaultdict(int)
    due = (
        sa.select(events.c.tenant_id, events.c.event_id)
        .select_from(joined())
        .where(events.c.expire_at <= now, jobs.c.state.in_(ENDED))
        .order_by(events.c.expire_at)
        .limit(EVENTS_A_STEP)
    )
    while found := await db.read(lambda conn: conn.execute(due).all()):
        step = await db.write(lambda conn: _delete(conn, found))
        removed["events"] += step.events
        removed["receipts"] += step.receipts
    removed["receipts"] += await delete_eventless(db, eventless_receipts.c.expire_at <= now)
    removed["rejections"] = await delete_all(db, rejections, rejections.c.expire_at <= now)
    removed["replays"] = await delete_all(db, replays, replays.c.finished_at <= now - _REPLAYS_KEPT)
    for kind, count in removed.items():
        EXPIRED.labels(kind).inc(count)
    if any(removed.values()):
        log.info("expired_deleted", **removed)


async def delete_eventless(db: Database, condition: sa.ColumnElement[bool], most: int | None = None) -> int:
    """Delete receipts that are no event and fit, `most` at most; how many."""
    query = sa.select(eventless_receipts.c.seq).where(condition).limit(_RECEIPTS_A_STEP)

    def step(conn: sa.Connection) -> int:
        found = conn.execute(query).all()
        delete_keys(conn, receipts, found)
        delete_keys(conn, eventless_receipts, found)
        return len(found)

    total = 0
    while most is None or total < most:
        done = await db.write(step)
        total += done
        if done < _RECEIPTS_A_STEP:
            break
    return total


def _delete(conn: sa.Connection, found: Sequence[Any]) -> Deleted:
    by_tenant: dict[str, list[str]] = defaultdict(list)
    for tenant, event_id in found:
        by_tenant[tenant].append(event_id)
    steps = [delete_events(conn, tenant, ids) for tenant, ids in by_tenant.items()]
    return Deleted(sum(step.events for step in steps), sum(step.receipts for step in steps))
