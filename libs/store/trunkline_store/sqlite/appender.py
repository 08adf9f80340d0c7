"""The hot path on SQLite: rows gather on the event loop, the writer thread takes all that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

import sqlalchemy as sa

from trunkline_store.appender import Appender, Stored, row_columns
from trunkline_store.errors import InvalidValue, StoreBusy
from trunkline_store.sqlite.statements import RowForm
from trunkline_store.sqlite.units import Entry, InsertBatch

# One statement for a batch of up to this many rows: each further one takes the GIL back once more.
ROWS_A_STATEMENT = 256
ROWS_A_BATCH = 512
# Of many rows about half go into a commit, so that while it is written the others' senders are heard and answered;
# all of them, and the writer and the loop would take turns at doing nothing.
_HALF_FROM = 32
# Lots of few different sizes: a statement for 48 rows is some 40 KB of program, best met again while still warm.
_LOT = 16
BYTES_A_BATCH = 8 << 20


class Wakeable(Protocol):
    """What an appender needs of the writer."""

    def wake(self) -> None:
        """Wake the thread if it sleeps."""

    def check_open(self) -> None:
        """Raise if no further work is taken."""

    def later(self, appender: SqliteAppender) -> None:
        """Have its background rows taken when it is their turn."""


class SqliteAppender(Appender):
    """Rows into one table; append() is called on the event loop only, the rest by the writer thread only."""

    def __init__(
        self,
        table: sa.Table,
        dialect: sa.Dialect,
        loop: asyncio.AbstractEventLoop,
        writer: Wakeable,
        *,
        parameters_a_statement: int,
        max_rows: int,
        max_bytes: int,
    ) -> None:
        self.columns = row_columns(table)
        self._form = RowForm(table, self.columns, dialect)
        self._width = len(self.columns)
        self._rows_a_statement = max(1, min(ROWS_A_STATEMENT, parameters_a_statement // self._width))
        self._queue: deque[Entry] = deque()
        self._background: deque[Entry] = deque()
        self._new_future = loop.create_future
        self._wake = writer.wake
        self._later = writer.later
        self._check_open = writer.check_open
        self._stored: Stored | None = None
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._rows = 0
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """Rows not yet committed."""
        return self._rows

    def tell(self, stored: Stored) -> None:
        """Have rows told once they are durable; see Appender."""
        self._stored = stored

    def append(
        self, row: tuple[Any, ...], size: int = 0, *, background: bool = False
    ) -> asyncio.Future[None]:
        """Queue a row; see Appender."""
        self._check_open()
        if self._rows >= self._max_rows or self._bytes + size > self._max_bytes:
            raise StoreBusy(f"{self._rows} rows wait for the writer")
        if len(row) != self._width:
            raise InvalidValue(f"a row has {self._width} values, not {len(row)}: {', '.join(self.columns)}")
        future = self._new_future()
        self._rows += 1
        self._bytes += size
        if background:
            self._background.append(Entry(row, future, size))
            if len(self._background) == 1:
                self._later(self)
            return future
        self._queue.append(Entry(row, future, size))
        self._wake()
        return future

    def __len__(self) -> int:
        return len(self._queue)

    def take(self) -> InsertBatch | None:
        """Take what waits, bounded, as one batch."""
        return self._taken(self._queue, lot(len(self._queue)))

    def take_background(self) -> InsertBatch | None:
        """Take what waits in the background, bounded; what is left has another turn."""
        batch = self._taken(self._background, min(len(self._background), ROWS_A_STATEMENT))
        if self._background:
            self._later(self)
        return batch

    def _taken(self, queue: deque[Entry], count: int) -> InsertBatch | None:
        if not count:
            return None
        entries: list[Entry] = []
        size = 0
        for _ in range(count):
            entry = queue.popleft()
            entries.append(entry)
            size += entry.size
            if size > BYTES_A_BATCH:
                break
        return InsertBatch(entries, self._form, self._rows_a_statement, self._released, self._stored)

    def _released(self, rows: int, size: int) -> None:
        self._rows -= rows
        self._bytes -= size


def lot(waiting: int) -> int:
    """Return how many of the rows that wait go into the next commit."""
    if waiting <= _LOT:
        return waiting
    count = min(waiting, max(_HALF_FROM, waiting // 2), ROWS_A_BATCH)
    return count - count % _LOT
