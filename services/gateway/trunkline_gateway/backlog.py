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

_CURSOR = "admission"
_RECEIPT = [receipts.c[name] for name in Receipt._fields]

# Built once: building costs more than running them, and they run for nearly every webhook that comes alone.
_STANDS = Hot(sa.select(cursors.c.seq).where(cursors.c.name == _CURSOR))
_BEHIND = Hot(
    sa.select(*_RECEIPT)
    .where(receipts.c.seq > sa.bindparam("cursor_"))
    .order_by(receipts.c.seq)
    .limit(sa.bindparam("limit_"))
)
_UNDECIDED_SOURCES = Hot(
    sa.select(undecided_receipts.c.source_id)
    .distinct()
    .where(undecided_receipts.c.source_id > sa.bindparam("after_"))
    .order_by(undecided_receipts.c.source_id)
    .limit(sa.bindparam("limit_"))
)
_UNDECIDED = Hot(
    sa.select(undecided_receipts.c.seq, undecided_receipts.c.weight)
    .where(undecided_receipts.c.source_id.in_(sa.bindparam("sources_", expanding=True)))
    .order_by(undecided_receipts.c.seq)
    .limit(sa.bindparam("limit_"))
)
_THESE = Hot(
    sa.select(*_RECEIPT)
    .where(receipts.c.seq.in_(sa.bindparam("seqs_", expanding=True)))
    .order_by(receipts.c.seq)
)
_UNDECIDED_COUNT = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(undecided_receipts.c.weight), 0))
# What is read at once of receipts that wait.
_READ_BYTES = 8 << 20
_MOVE = Hot(
    cursors.update()
    .where(cursors.c.name == _CURSOR, cursors.c.seq == sa.bindparam("before_"))
    .values(seq=sa.bindparam("after_"))
)


class Batch(NamedTuple):
    """Receipts to be decided, the oldest first."""

    rows: Sequence[Receipt]
    cursor: int = 0
    """What they stand behind, where that means anything."""


class Looked(Protocol):
    """How it is told which receipts were looked at; it joins the caller's transaction."""

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Say that the batch was looked at; return the numbers of those that nobody else took meanwhile."""


class Backlog(Looked, Protocol):
    """How an engine tells the receipts that nobody has looked at. Its methods join the caller's transaction."""

    def read(self, conn: sa.Connection, limit: int) -> Batch:
        """Return up to `limit` of them; fewer only when there are no others."""


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
    """Receipts that were looked at and could not be judged, on either engine: the table that names them.

    A body is read only once its source can be told, and a few at a time.
    """

    def count(self, conn: sa.Connection) -> tuple[int, int]:
        """Return how many there are, and their bytes."""
        count, weight = conn.execute(_UNDECIDED_COUNT).one()
        return int(count), int(weight)

    def sources(self, conn: sa.Connection, after: str, limit: int) -> list[str]:
        """Return the sources that they came through, in order, behind `after`."""
        return [row["source_id"] for row in _UNDECIDED_SOURCES.all(conn, {"after_": after, "limit_": limit})]

    def read(self, conn: sa.Connection, sources: Collection[str], limit: int) -> Batch:
        """Return some of them that came through these sources, at most `limit`; none when there are none."""
        left = _READ_BYTES
        seqs: list[int] = []
        for row in _UNDECIDED.all(conn, {"sources_": sorted(sources), "limit_": limit}):
            left -= row["weight"]
            if left < 0 and seqs:
                break
            seqs.append(row["seq"])
        return Batch(_receipts(_THESE.all(conn, {"seqs_": seqs})) if seqs else [])

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Forget that they are undecided."""
        named = undecided_receipts.c.seq.in_([row.seq for row in batch.rows])
        gone = undecided_receipts.delete().where(named).returning(undecided_receipts.c.seq)
        return set(conn.execute(gone).scalars())


def _receipts(rows: list[Row]) -> list[Receipt]:
    return [Receipt._make(row.values()) for row in rows]


def _move_cursor(conn: sa.Connection, before: int, after: int) -> bool:
    if before == 0 and _STANDS.first(conn, {}) is None:
        conn.execute(cursors.insert(), {"name": _CURSOR, "seq": after})
        return True
    return _MOVE.run(conn, {"before_": before, "after_": after}) == 1
