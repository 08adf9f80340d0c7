"""The backlog: receipts that admission has not looked at, and how the transaction that admits them says that it has."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from trunkline_store import Database
from trunkline_store.hot import Hot, Row
from trunkline_store.spanner import SPANNER, force_index, shards_of

from trunkline_gateway.decide import Receipt
from trunkline_gateway.schema import cursors, receipts, undecided_receipts

ADMISSION = "admission"
_RECEIPT = [receipts.c[name] for name in Receipt._fields]

# Built once: building costs more than running them, and they run for nearly every webhook that comes alone.
_STANDS = Hot(sa.select(cursors.c.seq).where(cursors.c.name == ADMISSION))
_BEHIND = Hot(
    sa.select(*_RECEIPT)
    .where(receipts.c.seq > sa.bindparam("cursor_"))
    .order_by(receipts.c.seq)
    .limit(sa.bindparam("limit_"))
)
_UNDECIDED = Hot(
    sa.select(*_RECEIPT)
    .join(undecided_receipts, undecided_receipts.c.seq == receipts.c.seq)
    .order_by(receipts.c.seq)
    .limit(sa.bindparam("limit_"))
)
_MOVE = Hot(
    cursors.update()
    .where(cursors.c.name == ADMISSION, cursors.c.seq == sa.bindparam("before_"))
    .values(seq=sa.bindparam("after_"))
)


class Batch(NamedTuple):
    """Receipts to be decided, the oldest first."""

    rows: Sequence[Receipt]
    cursor: int = 0
    """What they stand behind, where that means anything."""


class Backlog(Protocol):
    """How an engine tells the receipts that nobody has looked at. Its methods join the caller's transaction."""

    def read(self, conn: sa.Connection, limit: int) -> Batch:
        """Return up to `limit` of them; fewer only when there are no others."""

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Say that the batch was looked at; return the numbers of those that nobody else took meanwhile."""


def backlog_of(db: Database) -> Backlog:
    """Return the backlog as the store's engine has it."""
    return ByCursor() if db.engine == "sqlite" else ByShard()


class ByCursor:
    """Numbers grow, and one cursor stands behind what was looked at: nothing is written to a receipt."""

    def read(self, conn: sa.Connection, limit: int) -> Batch:
        """Return the receipts behind the cursor."""
        stands = _STANDS.first(conn, {})
        cursor = stands["seq"] if stands else 0
        return Batch(_receipts(_BEHIND.all(conn, {"cursor_": cursor, "limit_": limit})), cursor)

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Move the cursor; none are the caller's when somebody else moved it meanwhile."""
        if not _move_cursor(conn, batch.cursor, batch.rows[-1].seq):
            return ()
        return {row.seq for row in batch.rows}


class ByShard:
    """Numbers say nothing, and each receipt has a mark, which is the shard of the index that lists it.

    A batch is filled shard by shard from one chosen at random. So with little to do all of it is one batch, and when
    there is much, each batch is of one shard and the admissions of several replicas rarely want the same one.
    """

    def __init__(self) -> None:
        self._shards = range(shards_of(receipts.c.pending) or 1)
        self._oldest = Hot(
            sa.select(*_RECEIPT)
            .with_hint(receipts, force_index("receipts_pending"), SPANNER)
            .where(receipts.c.pending == sa.bindparam("shard_"))
            .order_by(receipts.c.received_at)
            .limit(sa.bindparam("limit_"))
        )

    def read(self, conn: sa.Connection, limit: int) -> Batch:
        """Return marked receipts."""
        found: list[Receipt] = []
        for shard in random.sample(self._shards, len(self._shards)):
            wanted = {"shard_": shard, "limit_": limit - len(found)}
            found += _receipts(self._oldest.all(conn, wanted))
            if len(found) >= limit:
                break
        return Batch(sorted(found, key=lambda row: (row.received_at, row.seq)))

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Clear the marks of those that have one still."""
        left = receipts.c.seq.in_([row.seq for row in batch.rows]) & receipts.c.pending.is_not(None)
        cleared = receipts.update().where(left).values(pending=None).returning(receipts.c.seq)
        return set(conn.execute(cleared).scalars())


class Undecided:
    """Receipts that were looked at and could not be judged, on either engine: the table that names them."""

    def read(self, conn: sa.Connection, limit: int) -> Batch:
        """Return up to `limit` of them."""
        return Batch(_receipts(_UNDECIDED.all(conn, {"limit_": limit})))

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Forget that they are undecided."""
        named = undecided_receipts.c.seq.in_([row.seq for row in batch.rows])
        gone = undecided_receipts.delete().where(named).returning(undecided_receipts.c.seq)
        return set(conn.execute(gone).scalars())


def _receipts(rows: list[Row]) -> list[Receipt]:
    return [Receipt._make(row.values()) for row in rows]


def _move_cursor(conn: sa.Connection, before: int, after: int) -> bool:
    if before == 0 and _STANDS.first(conn, {}) is None:
        conn.execute(cursors.insert(), {"name": ADMISSION, "seq": after})
        return True
    return _MOVE.run(conn, {"before_": before, "after_": after}) == 1
