"""Deleting events with everything that hangs on them, a few at a time, so that the writer is never held for long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from trunkline_jobs import JobState
from trunkline_store import Database

from trunkline_gateway.events.rows import counted, event_conditions, joined, oldest
from trunkline_gateway.intake.kept import WEIGHT, add_kept
from trunkline_gateway.schema import event_receipts, events, jobs, links_of, receipts

ENDED = (JobState.DONE.value, JobState.DEAD.value, JobState.CANCELLED.value)
EVENTS_A_STEP = 40  # with one receipt each 160 rows
_LINKS_A_STEP = 80
_PURGED_AT_ONCE = 10_000


class Deleted(NamedTuple):
    """What one transaction deleted."""

    events: int
    receipts: int


class Purged(NamedTuple):
    """What a purge deleted, or found."""

    total: int
    sample: Sequence[str]
    more: bool


def delete_events(
    conn: sa.Connection, tenant: str, event_ids: Sequence[str], *, ended_only: bool = True
) -> Deleted:
    """Delete events, their jobs and receipts, in the open transaction; those that are not ended stay.

    Of events with very many redeliveries some of those go first, and the events by a later call.
    """
    wanted = [events.c.tenant_id == tenant, events.c.event_id.in_(event_ids)]
    if ended_only:
        wanted.append(jobs.c.state.in_(ENDED))
    query = sa.select(events.c.event_id, events.c.first_seq, jobs.c.job_id).select_from(joined())
    found = conn.execute(query.where(*wanted)).all()
    first = {row.event_id: row.first_seq for row in found}
    if not first:
        return Deleted(0, 0)
    linked = links_of(tenant, list(first))
    query = sa.select(event_receipts.c.event_id, event_receipts.c.seq).where(linked)
    links = conn.execute(query.limit(_LINKS_A_STEP + len(first) + 1)).all()
    if len(links) > _LINKS_A_STEP + len(first):
        spare = [link.seq for link in links if link.seq != first[link.event_id]][:_LINKS_A_STEP]
        gone = _delete_receipts(conn, tenant, linked, spare)
        conn.execute(event_receipts.delete().where(linked, event_receipts.c.seq.in_(spare)))
        return Deleted(0, gone)
    gone = _delete_receipts(conn, tenant, linked, [link.seq for link in links])
    conn.execute(event_receipts.delete().where(linked))
    conn.execute(
        jobs.delete().where(jobs.c.tenant_id == tenant, jobs.c.job_id.in_([row.job_id for row in found]))
    )
    mine = (events.c.tenant_id == tenant) & events.c.event_id.in_(list(first))
    return Deleted(conn.execute(events.delete().where(mine)).rowcount, gone)


def _delete_receipts(
    conn: sa.Connection, tenant: str, linked: sa.ColumnElement[bool], seqs: Sequence[int]
) -> int:
    """Delete a tenant's receipts and count them out of what is kept of it; how many."""
    of_them = event_receipts.join(receipts, receipts.c.seq == event_receipts.c.seq)
    weight = sa.select(sa.func.coalesce(sa.func.sum(WEIGHT), 0)).select_from(of_them)
    # On Spanner receipts of releases that counted none were never counted in; their links name no receipt.
    counted = event_receipts.c.receipt_id.is_not(None)
    total: int = conn.execute(weight.where(linked, counted, event_receipts.c.seq.in_(seqs))).scalar_one()
    add_kept(conn, {tenant: -total})
    return conn.execute(receipts.delete().where(receipts.c.seq.in_(seqs))).rowcount


async def count_purge(db: Database, tenant: str, filter_: str) -> Purged:
    """Say what a purge would delete."""
    where = _purgeable(tenant, filter_)
    return Purged(*await db.scan(lambda conn: counted(conn, tenant, where)), more=False)


async def purge(db: Database, tenant: str, filter_: str) -> Purged:
    """Delete the ended events that fit, the oldest first, at most so many that a caller still waits for it."""
    query = oldest(_purgeable(tenant, filter_), EVENTS_A_STEP)
    count = 0
    while count < _PURGED_AT_ONCE:
        found = await db.scan(lambda conn: conn.execute(query).scalars().all())
        if not found:
            return Purged(count, [], more=False)
        deleted = await db.write(lambda conn: delete_events(conn, tenant, found), background=True)  # noqa: B023
        count += deleted.events
    return Purged(count, [], more=True)


def _purgeable(tenant: str, filter_: str) -> list[Any]:
    return [events.c.tenant_id == tenant, jobs.c.state.in_(ENDED), *event_conditions(filter_, tenant)]
