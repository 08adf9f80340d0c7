"""Statements on SQLite: many rows by one INSERT, and those that go straight to the driver."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from operator import is_, itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Dialect

from trunkline_store.sqlite.errors import translate
from trunkline_store.types import Bytes, checked_bytes, checked_text

T = TypeVar("T")

# Builds of SQLite before 3.32 stop at 999 parameters, later ones at 32,766 unless built otherwise.
PARAMETERS_A_STATEMENT = 32_766
_LOTS = (1024, 256, 64, 16)  # fewer rows than the least go by a statement of their own


def if_absent(table: sa.Table, key: Sequence[str]) -> sa.Insert:
    """Return the insert that passes over a row whose key is there.

    Not OR IGNORE: that passes over NOT NULL and CHECK violations too.
    """
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=list(key))


def decides_by_primary_key(table: sa.Table, key: Sequence[str]) -> bool:
    """Say whether `if_absent` looks at the primary key whatever key it is given: here never."""
    return False


def own_values(table: sa.Table, values: Any) -> dict[str, Any]:
    """Return what an append-only table's row holds beside its values: nothing, its number comes by itself."""
    return {}


def past_sqlalchemy(conn: Connection) -> bool:
    """Whether a statement may go straight to the driver: nobody listens."""
    return not conn.dispatch.before_cursor_execute


def drive(conn: Connection, text: str, binds: Sequence[Any], take: Callable[[sqlite3.Cursor], T]) -> T:
    """Run a statement through SQLite's driver; what `take` makes of its cursor. Raises the store's errors."""
    raw: Any = conn.connection.dbapi_connection
    try:
        cursor: sqlite3.Cursor = raw.execute(text, binds)
        try:
            return take(cursor)
        finally:
            cursor.close()  # a statement that is not read to its end keeps its snapshot
    except (sqlite3.Error, UnicodeEncodeError, OverflowError, MemoryError) as error:
        raise translate(error) from error


class RowForm:
    """How rows of one table become the text and the parameters of a driver-level INSERT.

    With a key, rows whose key is there are passed over. Which were not is told by RETURNING, or, at half of its cost,
    by `mark`: a column whose value no row has but the one that is inserted. Then only the number of inserted rows is
    looked at, and the marks where it is not that of all.

    A column of `alike` that has one object in all rows of a statement is a parameter once: one more for each row costs
    the driver a tenth of a microsecond, and a NULL most of one.
    """

    def __init__(
        self,
        table: sa.Table,
        columns: tuple[str, ...],
        dialect: Dialect,
        key: tuple[str, ...] | None = None,
        mark: str | None = None,
        alike: tuple[str, ...] = (),
    ) -> None:
        quote = dialect.identifier_preparer
        self._table = name = quote.format_table(table)
        self._names = [quote.quote(column) for column in columns]
        self.width = len(columns)
        self.rows_a_statement = max(1, PARAMETERS_A_STATEMENT // self.width)
        self._tail = self._telling = ""
        self._told_by: Callable[[Any], Any] | None = None  # gives a row's key, and then its mark
        if key is not None:
            listed = ", ".join(quote.quote(part) for part in key)
            self._tail = f" ON CONFLICT ({listed}) DO NOTHING"
            self._telling = f" RETURNING {listed}"
        if key is not None and mark is not None:
            marked = (*key, mark)
            self._told_by = itemgetter(*map(columns.index, marked))
            same = " AND ".join(f"t.{quote.quote(part)} = r.column{n}" for n, part in enumerate(marked, 1))
            told = ", ".join(f"t.{quote.quote(part)}" for part in key)
            self._marked = f"SELECT {told} FROM (VALUES ", f") AS r CROSS JOIN {name} AS t ON {same}"  # noqa: S608
        self._texts: dict[tuple[int, bool, tuple[int, ...]], str] = {}
        self._alike = tuple(map(columns.index, alike))
        self._converters = [_converter(table.columns[column], dialect) for column in columns]

    def sql(self, rows: int, returns: bool = False, once: tuple[int, ...] = ()) -> str:
        """Return the text for that many rows; the same one each time, so the driver finds it prepared.

        The columns `once`, by their places, are parameters once, before all others.
        """
        text = self._texts.get((rows, returns, once))
        if text is None:
            if len(self._texts) >= 512:
                self._texts.clear()
            others = [place for place in range(self.width) if place not in once]
            names = ", ".join(self._names[place] for place in (*once, *others))
            row = f"({', '.join([*(f'?{n}' for n in range(1, len(once) + 1)), *('?' * len(others))])})"
            text = f"INSERT INTO {self._table} ({names}) VALUES " + ", ".join([row] * rows) + self._tail  # noqa: S608
            text += self._telling if returns else ""
            self._texts[rows, returns, once] = text
        return text

    def insert(
        self, conn: Connection, rows: Sequence[tuple[Any, ...]], tell: bool = True
    ) -> Iterable[Sequence[Any]]:
        """Insert the rows through a connection; the keys inserted, where there is a key and they are to be told."""
        tell = tell and bool(self._telling)
        returns = tell and self._told_by is None
        done: list[Sequence[Any]] = []
        start = 0
        while start < len(rows):
            lot = rows[start : start + lot_of(min(len(rows) - start, self.rows_a_statement))]
            start += len(lot)
            columns = list(zip(*lot, strict=True))
            once = tuple(place for place in self._alike if _is_one(columns[place]))
            text, binds = self.sql(len(lot), returns, once), self._laid(columns, once)
            if returns:
                done += _run(conn, text, binds, _all)
                continue
            inserted = _run(conn, text, binds, _rowcount)
            if tell:
                done += self._told(conn, lot, inserted == len(lot))
        return done

    def _told(
        self, conn: Connection, rows: Sequence[tuple[Any, ...]], every: bool
    ) -> Sequence[Sequence[Any]]:
        """Return the keys of those rows of a statement that it inserted: of every one, or of those with their marks."""
        assert self._told_by is not None
        marked = list(map(self._told_by, rows))
        if every:
            return [mark[:-1] for mark in marked]
        begin, end = self._marked
        values = ", ".join([f"({', '.join('?' * len(marked[0]))})"] * len(marked))
        found: Sequence[Sequence[Any]] = _run(
            conn, begin + values + end, list(chain.from_iterable(marked)), _all
        )
        return found

    def flatten(self, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Return the parameters of all rows, one after another, as the driver takes them."""
        return self._laid(list(zip(*rows, strict=True)), ())

    def _laid(self, columns: list[tuple[Any, ...]], once: tuple[int, ...]) -> list[Any]:
        """Return the parameters of rows, given as their columns, those of the columns `once` first."""
        laid = [_converted(columns[place][:1], self._converters[place])[0] for place in once]
        others = [
            _converted(values, self._converters[place])
            for place, values in enumerate(columns)
            if place not in once
        ]
        laid += chain.from_iterable(zip(*others, strict=True))
        return laid


def _run(conn: Connection, text: str, binds: list[Any], take: Callable[[Any], Any]) -> Any:
    if past_sqlalchemy(conn):
        return drive(conn, text, binds, take)
    return take(conn.exec_driver_sql(text, tuple(binds), execution_options={"preserve_rowcount": True}))


def _all(done: Any) -> Any:
    return done.fetchall()


def _rowcount(done: Any) -> Any:
    return done.rowcount


def lot_of(rows: int) -> int:
    """Return how many of the rows to write by one statement: of few sizes, so that it is there, prepared.

    To prepare a statement for rows of 17 columns costs 10 microseconds a row, to run it 12.
    """
    return next((lot for lot in _LOTS if lot <= rows), rows)


def _converter(column: sa.Column[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if isinstance(column.type, Bytes):
        return _bytes
    return column.type.dialect_impl(dialect).bind_processor(dialect)


def _all_plain(values: Sequence[Any]) -> bool:
    """Tell, by one look at all of them, whether they are texts that any store takes; False where one is odd or None."""
    try:
        together = "".join(values)
    except TypeError:
        return False
    return together.isascii() and "\0" not in together


def _is_one(values: Sequence[Any]) -> bool:
    """Tell whether all of them are the same object."""
    return all(map(is_, values, repeat(values[0])))


def _bytes(value: Any) -> Any:
    """Return bytes as the driver takes them at once: for `bytes` themselves it looks for an adapter first."""
    return bytearray(value) if type(value) is bytes else checked_bytes(value)


def _converted(values: Sequence[Any], convert: Callable[[Any], Any] | None) -> Sequence[Any]:
    """Convert a column's values; the same object in row after row (a tenant, a moment, None) is converted once."""
    if convert is None or (convert is checked_text and _all_plain(values)):
        return values  # nothing is to be done, or to be looked at
    if values and _is_one(values):
        return [convert(values[0])] * len(values)
    made: list[Any] = []
    last: Any = made  # no value is it
    converted: Any = None
    for value in values:
        if value is not last:
            last, converted = value, convert(value)
        made.append(converted)
    return made
