"""The backlog: receipts that admission has not looked at, and how the transaction that admits them says that it has.

Each source's receipts come in their order, and the sources take turns: one that floods delays only itself. A turn is
bounded by receipts and by bytes. What nobody has verified is one source, whatever ids strangers make up.
"""

from __future__ import annotations

import random
import secrets
import string
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from trunkline_store import Database
from trunkline_store.declare import by_index, shards_of
from trunkline_store.hot import Hot, Row

from trunkline_gateway.receipts import VERIFIED, Fresh, Receipt
from trunkline_gateway.schema import admitted_ahead, cursors, receipts, undecided_receipts

MOST_BYTES = 1 << 20
"""Bodies of one turn, in bytes; at least one receipt is taken. A turn of many receipts has BYTES_A_RECEIPT for each."""
BYTES_A_RECEIPT = 4096

ADMISSION = "admission"
_RECEIPT = [receipts.c[name] for name in Receipt._fields]
_SIZE = (sa.func.length(receipts.c.body) + sa.func.length(receipts.c.headers)).label("size")
# How many receipts are looked at ahead of the cursor: in one read, and in all.
_LOOK_AHEAD = 8_192
_MOST_AHEAD = 500_000
_FEW = 32
_SIZE_BITS = 26
_SIZE_MOST = (1 << _SIZE_BITS) - 1
_SOURCES_A_SHARD = 8

# Built once: building costs more than running them, and they run for nearly every webhook that comes alone.
_STANDS = Hot(sa.select(cursors.c.seq, cursors.c.token).where(cursors.c.name == ADMISSION))
_BEHIND = Hot(
    sa.select(receipts.c.seq, receipts.c.source_id, receipts.c.verdict, _SIZE)
    .where(receipts.c.seq > sa.bindparam("behind_"))
    .order_by(receipts.c.seq)
    .limit(sa.bindparam("limit_"))
)
_LAST = Hot(sa.select(sa.func.max(receipts.c.seq).label("seq")))
_CHOSEN = Hot(
    sa.select(*_RECEIPT)
    .where(receipts.c.seq.in_(sa.bindparam("chosen_", expanding=True)))
    .order_by(receipts.c.seq)
)
_CHOSEN_LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CHOSEN_MOST = _CHOSEN_LENGTHS[-1]
_AHEAD = Hot(sa.select(admitted_ahead.c.seq).where(admitted_ahead.c.seq > sa.bindparam("behind_")))
_PASSED = Hot(admitted_ahead.delete().where(admitted_ahead.c.seq <= sa.bindparam("behind_")))
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
    .where(
        cursors.c.name == ADMISSION,
        cursors.c.seq == sa.bindparam("before_"),
        sa.func.coalesce(cursors.c.token, 0) == sa.bindparam("held_"),
    )
    .values(seq=sa.bindparam("after_"), token=sa.bindparam("token_"))
)


class Batch(NamedTuple):
    """Receipts to be decided, the oldest first."""

    rows: Sequence[Receipt]
    more: bool = False
    """Whether others wait."""
    cursor: int = 0
    """What they stand behind, where that means anything; and so for the rest."""
    held: int = 0
    """What the cursor's row held beside it."""
    token: int = 0
    """What it holds when the batch was taken."""
    after: int = 0
    """Where the cursor stands then: all up to it are taken."""
    ahead: bool = False
    """Whether any behind the cursor were taken already."""

    def cut(self, count: int) -> tuple[Batch, Batch]:
        """Return the first so many receipts and the others as batches that are taken one after the other."""
        if count >= len(self.rows):
            return self, Batch(())
        rest = self.rows[count:]
        # No further than before the first that still waits.
        after = max(self.cursor, min(self.after, min(row.seq for row in rest) - 1))
        first = self._replace(rows=self.rows[:count], token=_token(), after=after)
        return first, self._replace(rows=rest, cursor=after, held=first.token, ahead=True)


class Looked(Protocol):
    """How it is told which receipts were looked at; it joins the caller's transaction."""

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Say that the batch was looked at; return the numbers of those that nobody else took meanwhile."""


class Backlog(Looked, Protocol):
    """How an engine tells the receipts that nobody has looked at. Its methods join the caller's transaction."""

    def read(self, conn: sa.Connection, limit: int) -> Batch:
        """Return up to `limit` of them; `more` says whether there are others."""


def backlog_of(db: Database, fresh: Fresh) -> Backlog:
    """Return the backlog as the store's engine has it; `fresh` is what need not be read where numbers are in order."""
    return ByCursor(fresh) if db.features.numbers_in_order else ByShard()


class SourceTurns:
    """What waits, by source: each source's receipts in their order, the source whose turn is next at the front."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[int]] = {}  # number and size in one integer: there may be many
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, source: str, seq: int, size: int) -> None:
        """Put a receipt behind the others of its source."""
        queue = self._waiting.get(source)
        if queue is None:
            queue = self._waiting[source] = deque()
        queue.append(seq << _SIZE_BITS | min(size, _SIZE_MOST))
        self._count += 1

    def chosen(self, limit: int) -> list[int]:
        """Return the numbers of those whose turn it is: one of each source, then the next of each."""
        queues = list(islice(self._waiting.values(), limit))
        found: list[int] = []
        room = max(MOST_BYTES, limit * BYTES_A_RECEIPT)
        place = 0
        while queues and len(found) < limit:
            queues = [queue for queue in queues if len(queue) > place]
            for queue in queues:
                seq, size = queue[place] >> _SIZE_BITS, queue[place] & _SIZE_MOST
                if found and (size > room or len(found) >= limit):
                    return found
                found.append(seq)
                room -= size
            place += 1
        return found

    def first_but(self, taken: Collection[int]) -> int | None:
        """Return the lowest number that waits and is not among these, which are each source's first ones."""
        gone = frozenset(taken)
        firsts = (
            next((n >> _SIZE_BITS for n in q if n >> _SIZE_BITS not in gone), None)
            for q in self._waiting.values()
        )
        return min((first for first in firsts if first is not None), default=None)

    def remove(self, taken: Collection[int]) -> None:
        """Forget these; their sources' next turn is after the others'."""
        gone = frozenset(taken)
        left = len(gone)
        for source, queue in list(self._waiting.items()):
            if not left:
                break
            served = 0
            while queue and queue[0] >> _SIZE_BITS in gone:
                queue.popleft()
                served += 1
            if served:
                left -= served
                self._count -= served
                del self._waiting[source]
                if queue:
                    self._waiting[source] = queue


class ByCursor:
    """Numbers grow, and one cursor stands before the first that nobody looked at: nothing is written to a receipt.

    Which source a receipt is of is read ahead of the cursor, a few columns of it, and remembered here. A receipt that
    is taken while an older one waits is noted until the cursor passes it. What is remembered is only a shortcut: it
    is read anew when the cursor's row holds a token that is not the last one given out here, because somebody else
    moved the cursor, or at the start.
    """

    def __init__(self, fresh: Fresh | None = None) -> None:
        self._fresh = fresh or Fresh()
        self._turns = SourceTurns()
        self._stands: tuple[int, int] | None = None  # the cursor and its token when `_turns` was right
        self._offered: tuple[Batch, Sequence[int]] | None = None
        self._looked = 0  # all up to it are among the turns, or taken
        self._ahead: set[int] = set()  # taken, and not looked at here yet
        self._last_ahead = 0

    def read(self, conn: sa.Connection, limit: int) -> Batch:
        """Return receipts behind the cursor."""
        self._agree(conn)
        unseen = self._look_ahead(conn, limit)
        chosen = self._turns.chosen(limit)
        rows = self._rows(conn, sorted(chosen))
        assert self._stands is not None  # since they agree
        cursor, held = self._stands
        first = self._turns.first_but(chosen)
        batch = Batch(
            rows,
            more=unseen or len(self._turns) > len(chosen),
            cursor=cursor,
            held=held,
            token=_token(),
            after=max(cursor, self._looked if first is None else first - 1),
            ahead=self._last_ahead > cursor,
        )
        self._offered = batch, chosen
        return batch

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Move the cursor; none are the caller's when somebody else moved it meanwhile."""
        if not _move_cursor(conn, batch):
            return ()
        if batch.ahead:
            _PASSED.run(conn, {"behind_": batch.after})
        ahead = [{"seq": row.seq} for row in batch.rows if row.seq > batch.after]
        if ahead:
            conn.execute(admitted_ahead.insert(), ahead)
        return {row.seq for row in batch.rows}

    def _agree(self, conn: sa.Connection) -> None:
        """See what became of the batch that was given out last, and begin anew where it was not that alone."""
        row = _STANDS.first(conn, {})
        stands = (row["seq"], row["token"] or 0) if row else (0, 0)
        if stands == self._stands:
            return
        if self._offered is not None and stands == (self._offered[0].after, self._offered[0].token):
            batch, chosen = self._offered
            self._turns.remove(chosen)
            self._last_ahead = max([self._last_ahead, *(seq for seq in chosen if seq > batch.after)])
        else:
            self._turns = SourceTurns()
            self._looked = stands[0]
            self._ahead = {ahead["seq"] for ahead in _AHEAD.all(conn, {"behind_": stands[0]})}
            self._last_ahead = max(self._ahead, default=0)
        self._stands = stands

    def _look_ahead(self, conn: sa.Connection, limit: int) -> bool:
        """Look at what came since: a few while nothing waits, when the caller may hold the event loop.

        Return whether there may be more that nobody looked at.
        """
        few = limit <= _FEW and not len(self._turns)
        most = min(limit + 1 if few else _LOOK_AHEAD, _MOST_AHEAD - len(self._turns))
        if most <= 0:
            return False
        last = _LAST.all(conn, {})[0]["seq"] or 0
        before = self._looked
        for seq, source, verdict, size in self._fresh.noted(before, min(last, before + most)):
            self._see(_queue_of(source, verdict), seq, size)
        if self._looked == before < last:
            for found in _BEHIND.all(conn, {"behind_": before, "limit_": most}):
                self._see(_queue_of(found["source_id"], found["verdict"]), found["seq"], found["size"])
        return self._looked < last

    def _see(self, queue: str, seq: int, size: int) -> None:
        self._looked = seq
        if seq in self._ahead:
            self._ahead.discard(seq)
        else:
            self._turns.add(queue, seq, size)

    def _rows(self, conn: sa.Connection, seqs: Sequence[int]) -> list[Receipt]:
        """Return receipts by their numbers, which are in order; those that are not fresh are read."""
        fresh = {seq: row for seq in seqs if (row := self._fresh.get(seq)) is not None}
        if len(fresh) == len(seqs):
            return list(fresh.values())
        read = _chosen(conn, [seq for seq in seqs if seq not in fresh])
        return sorted([*fresh.values(), *read]) if fresh else read


class ByShard:
    """Numbers say nothing, and each receipt has a mark, which is the shard of the index that lists it.

    A batch is filled shard by shard from one chosen at random. So with little to do all of it is one batch, and when
    there is much, each batch is of one shard and the admissions of several replicas rarely want the same one. A shard
    that holds more than there is room for gives some of each of a few sources, from one chosen at random on.
    """

    def __init__(self) -> None:
        self._shards = range(shards_of(receipts.c.pending) or 1)
        shard, source = receipts.c.pending == sa.bindparam("shard_"), receipts.c.source_id
        limit: sa.BindParameter[int] = sa.bindparam("limit_")
        by_source = "receipts_pending_by_source"
        shown = (receipts.c.seq, source, receipts.c.verdict, receipts.c.received_at, _SIZE)
        keys = by_index(sa.select(*shown), receipts, by_source).where(shard).limit(limit)
        self._all = Hot(keys.order_by(source, receipts.c.received_at))
        self._of_source = Hot(keys.where(source == sa.bindparam("source_")).order_by(receipts.c.received_at))
        self._next = Hot(
            by_index(sa.select(source), receipts, by_source)
            .where(shard, source > sa.bindparam("source_"))
            .order_by(source)
            .limit(1)
        )

    def read(self, conn: sa.Connection, limit: int) -> Batch:
        """Return marked receipts."""
        turns = SourceTurns()
        for shard in random.sample(self._shards, len(self._shards)):
            for key in self._keys(conn, shard, limit + 1 - len(turns)):
                turns.add(_queue_of(key["source_id"], key["verdict"]), key["seq"], key["size"])
            if len(turns) > limit:
                break
        chosen = turns.chosen(limit)
        rows = _chosen(conn, chosen)
        return Batch(sorted(rows, key=lambda row: (row.received_at, row.seq)), more=len(turns) > len(chosen))

    def take(self, conn: sa.Connection, batch: Batch) -> Collection[int]:
        """Clear the marks of those that have one still."""
        left = receipts.c.seq.in_([row.seq for row in batch.rows]) & receipts.c.pending.is_not(None)
        cleared = receipts.update().where(left).values(pending=None).returning(receipts.c.seq)
        return set(conn.execute(cleared).scalars())

    def _keys(self, conn: sa.Connection, shard: int, limit: int) -> Sequence[Row]:
        found = self._all.all(conn, {"shard_": shard, "limit_": limit})
        if len(found) < limit:
            return found
        sources = list(islice(self._sources(conn, shard), _SOURCES_A_SHARD))
        share = -(-limit // max(1, len(sources)))
        wanted: Mapping[str, object] = {"shard_": shard, "limit_": share}
        return [key for source in sources for key in self._of_source.all(conn, {**wanted, "source_": source})]

    def _sources(self, conn: sa.Connection, shard: int) -> Iterator[str]:
        """Give the sources that have receipts in a shard, a step of the index each, from some place on and around."""
        begun = "".join(random.sample(string.ascii_lowercase + string.digits, 3))
        after, wrapped = begun, False
        while True:
            row = self._next.first(conn, {"shard_": shard, "source_": after})
            if row is None or (wrapped and row["source_id"] > begun):
                if wrapped:
                    return
                after, wrapped = "", True
                continue
            after = row["source_id"]
            yield after


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


def _token() -> int:
    return secrets.randbits(62) + 1


def _queue_of(source_id: str, verdict: int) -> str:
    return source_id if verdict == VERIFIED else ""


def _receipts(rows: list[Row]) -> list[Receipt]:
    return [Receipt._make(row.values()) for row in rows]


def _chosen(conn: sa.Connection, seqs: Sequence[int]) -> list[Receipt]:
    """Read receipts by their numbers, by statements of few lengths."""
    rows: list[Row] = []
    for start in range(0, len(seqs), _CHOSEN_MOST):
        some = list(seqs[start : start + _CHOSEN_MOST])
        full = next(length for length in _CHOSEN_LENGTHS if length >= len(some))
        rows += _CHOSEN.all(conn, {"chosen_": some + some[-1:] * (full - len(some))})
    return _receipts(rows)


def _move_cursor(conn: sa.Connection, batch: Batch) -> bool:
    if batch.cursor == 0 and _STANDS.first(conn, {}) is None:
        conn.execute(cursors.insert(), {"name": ADMISSION, "seq": batch.after, "token": batch.token})
        return True
    moved = {"before_": batch.cursor, "held_": batch.held, "after_": batch.after, "token_": batch.token}
    return _MOVE.run(conn, moved) == 1
