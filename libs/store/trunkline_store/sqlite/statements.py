"""Statements on SQLite: many rows by one INSERT, and those that go straight to the driver."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from operator import is_
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Dialect

from trunkline_store.sqlite.errors import translate
from trunkline_store.types import checked_text

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
    """

    def __init__(
        self,
        table: sa.Table,
        columns: tuple[str, ...],
        dialect: Dialect,
        key: tuple[str, ...] | None = None,
        mark: str | None = None,
    ) -> None:
        quote = dialect.identifier_preparer
        name, names = quote.format_table(table), ", ".join(map(quote.quote, columns))
        self.width = len(columns)
        self.rows_a_statement = max(1, PARAMETERS_A_STATEMENT // self.width)
        self._head = f"INSERT INTO {name} ({names}) VALUES "  # noqa: S608 - names of ours
        self._row = f"({', '.join('?' * self.width)})"
        self._tail = self._telling = ""
        self._told_by: tuple[int, ...] = ()  # where the key and the mark stand in a row
        if key is not None:
            listed = ", ".join(quote.quote(part) for part in key)
            self._tail = f" ON CONFLICT ({listed}) DO NOTHING"
            self._telling = f" RETURNING {listed}"
        if key is not None and mark is not None:
            marked = (*key, mark)
            self._told_by = tuple(columns.index(part) for part in marked)
            same = " AND ".join(f"t.{quote.quote(part)} = r.column{n}" for n, part in enumerate(marked, 1))
            told = ", ".join(f"t.{quote.quote(part)}" for part in key)
            self._marked = f"SELECT {told} FROM (VALUES ", f") AS r CROSS JOIN {name} AS t ON {same}"  # noqa: S608
        self._texts: dict[tuple[int, bool], str] = {}
        self._converters = [
            (index, convert)
            for index, name in enumerate(columns)
            if (convert := _converter(table.columns[name], dialect)) is not None
        ]

    def sql(self, rows: int, returns: bool = False) -> str:
        """Return the text for that many rows; the same one each time, so the driver finds it prepared."""
        text = self._texts.get((rows, returns))
        if text is None:
            if len(self._texts) >= 512:
                self._texts.clear()
            text = (
                self._head + ", ".join([self._row] * rows) + self._tail + (self._telling if returns else "")
            )
            self._texts[rows, returns] = text
        return text

    def insert(
        self, conn: Connection, rows: Sequence[tuple[Any, ...]], tell: bool = True
    ) -> Iterable[Sequence[Any]]:
        """Insert the rows through a connection; the keys inserted, where there is a key and they are to be told."""
        tell = tell and bool(self._telling)
        returns = tell and not self._told_by
        done: list[Sequence[Any]] = []
        start = 0
        while start < len(rows):
            lot = lot_of(min(len(rows) - start, self.rows_a_statement))
            text, binds = self.sql(lot, returns), self.flatten(rows[start : start + lot])
            start += lot
            if returns:
                done += _run(conn, text, binds, _all)
                continue
            inserted = _run(conn, text, binds, _rowcount)
            if tell:
                done += self._told(conn, binds, inserted == lot)
        return done

    def _told(self, conn: Connection, binds: list[Any], every: bool) -> Sequence[Sequence[Any]]:
        """Return the keys of those rows of a statement that it inserted: of every one, or of those with their marks."""
        *key, mark = (binds[place :: self.width] for place in self._told_by)
        if every:
            return list(zip(*key, strict=True))
        begin, end = self._marked
        values = ", ".join([f"({', '.join('?' * (len(key) + 1))})"] * len(mark))
        asked = list(chain.from_iterable(zip(*key, mark, strict=True)))
        found: Sequence[Sequence[Any]] = _run(conn, begin + values + end, asked, _all)
        return found

    def flatten(self, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Return the parameters of all rows, one after another, as the driver takes them."""
        flat = list(chain.from_iterable(rows))
        for index, convert in self._converters:
            values = flat[index :: self.width]
            if convert is checked_text and _all_plain(values):
                continue  # it only looks at them
            flat[index :: self.width] = _converted(values, convert)
        return flat


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
    return column.type.dialect_impl(dialect).bind_processor(dialect)


def _all_plain(values: Sequence[Any]) -> bool:
    """Tell, by one look at all of them, whether they are texts that any store takes; False where one is odd or None."""
    try:
        together = "".join(values)
    except TypeError:
        return False
    return together.isascii() and "\0" not in together


def _converted(values: Sequence[Any], convert: Callable[[Any], Any]) -> list[Any]:
    """Convert a column's values; the same object in row after row (a tenant, a moment, None) is converted once."""
    if values and all(map(is_, values, repeat(values[0]))):
        return [convert(values[0])] * len(values)
    made: list[Any] = []
    last: Any = made  # no value is it
    converted: Any = None
    for value in values:
        if value is not last:
            last, converted = value, convert(value)
        made.append(converted)
    return made
