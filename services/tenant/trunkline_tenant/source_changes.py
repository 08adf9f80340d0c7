"""The revision that grows with every change of a source, and what changed since one.

The row of the counter orders all changes: a revision is visible only with everything before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store import insert_if_absent
from trunkline_store.declare import commit_time

from trunkline_tenant.schema import source_changes, source_revision, sources

# A watcher that was away for longer than this gets a snapshot.
DELETIONS_KEPT = timedelta(days=30)
_THE_ROW = 1
# Stands for a deleted tenant; no tenant has this id.
NOBODY = "-"


class Change(NamedTuple):
    """The last change of a source."""

    tenant_id: str
    source_id: str
    revision: int
    deleted: bool


class Reach(NamedTuple):
    """The last revision, and the one up to which deletions are forgotten."""

    revision: int
    forgotten: int


def reach(conn: Connection) -> Reach:
    """Return how far revisions reach; zeros before the first change."""
    row = conn.execute(sa.select(source_revision.c.revision, source_revision.c.forgotten)).first()
    return Reach(row.revision, row.forgotten) if row is not None else Reach(0, 0)


def changed(conn: Connection, tenant: str, source: str, now: datetime, *, deleted: bool = False) -> int:
    """Note a change of a source, in the transaction that changes it; its revision."""
    if deleted:
        _forget(conn, now - DELETIONS_KEPT)
    return _note(conn, tenant, source, now, deleted)


def _note(conn: Connection, tenant: str, source: str, now: datetime, deleted: bool) -> int:
    insert_if_absent(conn, source_revision, {"id": _THE_ROW, "revision": 0, "forgotten": 0}, ["id"])
    revision = reach(conn).revision + 1
    conn.execute(sa.update(source_revision).where(source_revision.c.id == _THE_ROW).values(revision=revision))
    key = {"tenant_id": tenant, "source_id": source}
    values = {"revision": revision, "deleted": deleted}
    # With replicas on several machines only the commit knows when a change was made: it writes the time itself.
    time = commit_time(conn, now)
    new = insert_if_absent(conn, source_changes, {**key, **values, "change_time": now}, list(key))
    if not new or time is not now:
        conn.execute(
            sa.update(source_changes)
            .where(source_changes.c.tenant_id == tenant, source_changes.c.source_id == source)
            .values(**values, change_time=time)
        )
    return revision


def tenant_changed(conn: Connection, tenant: str, now: datetime) -> None:
    """Note a change of all of a tenant's sources: their `accepting` follows the tenant's state."""
    found = conn.execute(
        sa.select(sources.c.source_id).where(sources.c.tenant_id == tenant).order_by(sources.c.source_id)
    )
    for source in found.scalars().all():
        changed(conn, tenant, source, now)


def tenant_deleted(conn: Connection, tenant: str, now: datetime) -> None:
    """Tell the watchers that all of a tenant's sources are gone, in rows that do not name the tenant."""
    mine = source_changes.c.tenant_id == tenant
    named = conn.execute(
        sa.select(source_changes.c.source_id).where(mine).order_by(source_changes.c.source_id)
    )
    # Once, and before any time is written: afterwards times cannot be read.
    _forget(conn, now - DELETIONS_KEPT)
    for source in named.scalars().all():
        _note(conn, NOBODY, source, now, deleted=True)
    conn.execute(sa.delete(source_changes).where(mine))


def since(conn: Connection, revision: int, most: int) -> Sequence[Change]:
    """Return the changes after a revision, the oldest first. Of every tenant: for the gateway alone."""
    found = conn.execute(
        sa.select(
            source_changes.c.tenant_id,
            source_changes.c.source_id,
            source_changes.c.revision,
            source_changes.c.deleted,
        )
        .where(source_changes.c.revision > revision)
        .order_by(source_changes.c.revision)
        .limit(most)
    )
    return [Change(*row) for row in found]


def _forget(conn: Connection, before: datetime) -> None:
    """Drop the deletions that nobody needs to be told any more, and note how far they reached."""
    old = sa.and_(source_changes.c.deleted.is_(True), source_changes.c.change_time < before)
    newest = conn.execute(sa.select(sa.func.max(source_changes.c.revision)).where(old)).scalar()
    if newest is not None:
        conn.execute(sa.delete(source_changes).where(old))
        behind = (source_revision.c.id == _THE_ROW) & (source_revision.c.forgotten < int(newest))
        conn.execute(sa.update(source_revision).where(behind).values(forgotten=int(newest)))
