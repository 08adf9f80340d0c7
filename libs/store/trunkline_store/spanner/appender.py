"""The hot path on Spanner: rows gather on the event loop and go out as one blind Commit of mutations a batch."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from google.protobuf.struct_pb2 import ListValue, Value

from trunkline_store.appender import Appender, Stored, row_columns
from trunkline_store.declare import KEY_BITS, derived_key, options_of, shards_of
from trunkline_store.errors import Conflict, InvalidValue, StoreBusy, StoreUnavailable
from trunkline_store.spanner.client import Client
from trunkline_store.spanner.deadline import Deadline
from trunkline_store.spanner.errors import TransactionLost, translate, worth_repeating
from trunkline_store.spanner.threads import Sessions
from trunkline_store.spanner.values import TypeCode, code_of, to_values

# A commit holds at most 80,000 mutations (a value each, and one for each index entry) and 100 MB.
ROWS_A_BATCH = 512
BYTES_A_BATCH = 8 << 20


class Entry(NamedTuple):
    """One row on its way: values in the order of the appender's columns, who waits, its size as told."""

    row: tuple[Any, ...]
    future: asyncio.Future[None]
    size: int


class WireForm:
    """How a row of one table goes over the wire."""

    def __init__(self, table: sa.Table, dialect: sa.Dialect) -> None:
        self.table = table.name
        self.given = row_columns(table)
        filled = table.autoincrement_column
        marks = [column for column in table.columns if shards_of(column) is not None]
        self._mark_shards = [shards_of(column) or 1 for column in marks]
        self._keyed = filled is not None
        source = None if filled is None else options_of(filled).get("key_from")
        self._derived = None if source is None else self.given.index(source)
        self.columns = (
            *((filled.name,) if filled is not None else ()),
            *self.given,
            *(column.name for column in marks),
        )
        self._converters = [
            table.columns[name].type.dialect_impl(dialect).bind_processor(dialect) for name in self.given
        ]
        # Times and JSON come back written otherwise, and a mark may have been cleared since.
        changing = {TypeCode.TIMESTAMP, TypeCode.JSON}
        self._plain = [
            index
            for index, name in enumerate(self.columns)
            if shards_of(table.columns[name]) is None and code_of(table.columns[name]) not in changing
        ]
        self._key = [self.columns.index(column.name) for column in table.primary_key.columns]

    def wire(self, row: tuple[Any, ...], *, draw: bool = False) -> ListValue:
        """Return a row's wire form with the key that the engine gives it; raises InvalidValue.

        `draw` gives a random key also where it would be derived: another row has that one.
        """
        values = [
            value if convert is None else convert(value)
            for value, convert in zip(row, self._converters, strict=True)
        ]
        source = None if draw else self._derived
        key = secrets.randbits(KEY_BITS) if source is None else derived_key(values[source])
        head = [key] if self._keyed else []
        return to_values([*head, *values, *(key % shards for shards in self._mark_shards)])

    def key_of(self, wire: ListValue) -> ListValue:
        """Return the primary key in a row's wire form."""
        return ListValue(values=[wire.values[index] for index in self._key])

    def same(self, there: list[Value], wire: ListValue) -> bool:
        """Tell whether a stored row is the one sent."""
        return all(there[index] == wire.values[index] for index in self._plain)

    @property
    def gives_keys(self) -> bool:
        """Whether the engine gives the key: then a clash is answered with another."""
        return self._keyed


class SpannerAppender(Appender):
    """Rows into one table; everything but the commit itself happens on the event loop."""

    def __init__(
        self,
        form: WireForm,
        client: Client,
        sessions: Sessions,
        pool: Executor,
        check_open: Callable[[], None],
        *,
        max_rows: int,
        max_bytes: int,
    ) -> None:
        self.columns = form.given
        self._batches = _Batches(form, client, sessions)
        self._pool = pool
        self._check_open = check_open
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Entry] = deque()
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._at_once = client.address.appends
        self._rows = self._bytes = self._under_way = 0
        self._pump_due = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """Rows not yet committed."""
        return self._rows

    def tell(self, stored: Stored) -> None:
        """Tell nothing: numbers are in no order; see Appender."""

    def append(
        self, row: tuple[Any, ...], size: int = 0, *, background: bool = False
    ) -> asyncio.Future[None]:
        """Queue a row; see Appender. There is no one writer to share."""
        self._check_open()
        if self._rows >= self._max_rows or self._bytes + size > self._max_bytes:
            raise StoreBusy(f"{self._rows} rows wait for the store")
        if len(row) != len(self.columns):
            told = f"a row has {len(self.columns)} values, not {len(row)}: {', '.join(self.columns)}"
            raise InvalidValue(told)
        future: asyncio.Future[None] = self._loop.create_future()
        self._rows += 1
        self._bytes += size
        self._idle.clear()
        self._queue.append(Entry(row, future, size))
        if not self._pump_due:  # once for all rows that this turn of the loop brings
            self._pump_due = True
            self._loop.call_soon(self._pump)
        return future

    async def drained(self) -> None:
        """Return once every row that was taken has its outcome."""
        await self._idle.wait()

    def _pump(self) -> None:
        self._pump_due = False
        while self._queue and self._under_way < self._at_once:
            entries = self._take()
            self._under_way += 1
            work = self._loop.run_in_executor(self._pool, self._batches.insert, [e.row for e in entries])
            work.add_done_callback(partial(self._settle, entries))

    def _take(self) -> list[Entry]:
        entries: list[Entry] = []
        size = 0
        while self._queue and len(entries) < ROWS_A_BATCH and size <= BYTES_A_BATCH:
            entries.append(self._queue.popleft())
            size += entries[-1].size
        return entries

    def _settle(self, entries: Sequence[Entry], done: asyncio.Future[list[BaseException | None]]) -> None:
        self._under_way -= 1
        self._rows -= len(entries)
        self._bytes -= sum(entry.size for entry in entries)
        failed = done.exception()
        outcomes = [failed] * len(entries) if failed is not None else done.result()
        for entry, error in zip(entries, outcomes, strict=True):
            if entry.future.done():  # the awaiter was cancelled; its row is kept all the same
                continue
            if error is None:
                entry.future.set_result(None)
            else:
                entry.future.set_exception(error)
        if not self._rows:
            self._idle.set()
        self._pump()


class _Batches:
    """Commits batches, on the pool's threads; halves one that is refused until the refused rows stand alone."""

    def __init__(self, form: WireForm, client: Client, sessions: Sessions) -> None:
        self._form = form
        self._client = client
        self._sessions = sessions

    def insert(self, rows: Sequence[tuple[Any, ...]]) -> list[BaseException | None]:
        """Insert rows; for each what went wrong, None if it is durable."""
        outcomes: list[BaseException | None] = [None] * len(rows)
        wires: list[tuple[int, ListValue]] = []
        for index, row in enumerate(rows):
            try:
                wires.append((index, self._form.wire(row)))
            except Exception as exc:  # belongs to the row's awaiter
                outcomes[index] = translate(exc)
        deadline = self._client.deadline(self._client.address.deadline_seconds)
        try:
            session = self._sessions.take(deadline)
        except Exception as exc:
            return [outcome or exc for outcome in outcomes]
        try:
            session = self._insert(session, wires, rows, outcomes, deadline)
        finally:
            self._sessions.give(session)
        return outcomes

    def _insert(
        self,
        session: str,
        wires: list[tuple[int, ListValue]],
        rows: Sequence[tuple[Any, ...]],
        outcomes: list[BaseException | None],
        deadline: Deadline,
    ) -> str:
        """Fill in the outcomes; returns the session in use, another one if Spanner forgot this one."""
        if not wires:
            return session
        attempt = 0
        while True:
            try:
                self._client.insert(
                    session, self._form.table, self._form.columns, [wire for _, wire in wires], deadline
                )
                return session
            except StoreUnavailable as exc:
                try:
                    if not worth_repeating(exc):
                        raise
                    if isinstance(exc, TransactionLost) and exc.session_lost:
                        session = self._sessions.replace(session, deadline)
                    deadline.pause(attempt, exc.delay if isinstance(exc, TransactionLost) else None)
                except StoreUnavailable as given_up:
                    for index, _ in wires:
                        outcomes[index] = given_up
                    return session
                attempt += 1
            except Exception as exc:  # a row's fault; whose is seen in halves
                if len(wires) == 1:
                    [(index, wire)] = wires
                    outcomes[index] = exc
                    if isinstance(exc, Conflict):
                        return self._clash(session, index, wire, rows, outcomes, deadline)
                    return session
                middle = len(wires) // 2
                session = self._insert(session, wires[:middle], rows, outcomes, deadline)
                return self._insert(session, wires[middle:], rows, outcomes, deadline)

    def _clash(
        self,
        session: str,
        index: int,
        wire: ListValue,
        rows: Sequence[tuple[Any, ...]],
        outcomes: list[BaseException | None],
        deadline: Deadline,
    ) -> str:
        """Settle a key that is there: it is this very row, if a commit went through whose answer was lost."""
        try:
            form = self._form
            there = self._client.read_row(session, form.table, form.columns, form.key_of(wire), deadline)
        except Exception as exc:
            outcomes[index] = exc
            return session
        if there is not None and form.same(there, wire):
            outcomes[index] = None
        elif there is not None and form.gives_keys:
            outcomes[index] = None
            return self._insert(
                session, [(index, form.wire(rows[index], draw=True))], rows, outcomes, deadline
            )
        return session
