"""Inserts: if absent, by key; and many rows by one statement whose text is made once a size."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Dialect

from trunkline_store.hot import Hot, drive, past_sqlalchemy
from trunkline_store.spanner.declare import engines_own
from trunkline_store.types import on_spanner

# Builds of SQLite before 3.32 stop at 999 parameters, later ones at 32,766 unless built otherwise.
PARAMETERS_A_STATEMENT = 32_766


def insert_if_absent(
    conn: Connection, table: sa.Table, values: Mapping[str, Any], key: Sequence[str]
) -> bool:
    """Insert a row unless one with the same `key` is there; True when this call inserted it.

    `key` names the columns of the primary key or of one unique index. Any other constraint that the row
    violates is an error, as with a plain insert: Conflict or InvalidValue.
    """
    if on_spanner(conn.dialect) and set(key) != {column.name for column in table.primary_key.columns}:
        # OR IGNORE looks at the primary key alone; inside the transaction looking first is as good.
        there = sa.select(sa.literal(1)).where(*[table.c[name] == values[name] for name in key]).limit(1)
        if conn.execute(there).first() is not None:
            return False
    return _if_absent(table, tuple(key), conn.dialect.name).run(conn, values) == 1


def insert_appended(conn: Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
    """Insert a row into an append-only table inside a transaction, with what its appender would give it."""
    own = engines_own(table, values) if on_spanner(conn.dialect) else {}
    conn.execute(sa.insert(table), {**values, **own})


@lru_cache(maxsize=256)
def _if_absent(table: sa.Table, key: tuple[str, ...], dialect: str) -> Hot:
    if dialect == "sqlite":
        # Not OR IGNORE: there it swallows NOT NULL and CHECK violations too.
        return Hot(sqlite.insert(table).on_conflict_do_nothing(index_elements=list(key)))
    return Hot(sa.insert(table).prefix_with("OR IGNORE"))


class BulkInsert:
    """Many rows of one shape into one table; rows are tuples in the order of `columns`, Python values.

    SQLAlchemy's own multi-row insert costs 70 microseconds a row, this about 2. With `if_absent` (the key's
    columns) rows whose key is there already are passed over, and `run` tells the keys that were inserted.
    """

    def __init__(
        self, table: sa.Table, columns: Sequence[str] | None = None, if_absent: Sequence[str] | None = None
    ) -> None:
        self.table = table
        self.columns = tuple(columns) if columns is not None else tuple(c.name for c in table.columns)
        self.key = tuple(if_absent) if if_absent is not None else None
        self._forms: dict[str, _Form] = {}

    def run(self, conn: Connection, rows: Sequence[tuple[Any, ...]]) -> set[Any]:
        """Insert the rows; the keys inserted (plain values for a key of one column, tuples for more).

        Without `if_absent` every row is inserted or the statement fails, and the set is empty.
        """
        form = self._forms.get(conn.dialect.name)
        if form is None:
            form = self._forms[conn.dialect.name] = self._form(conn.dialect)
        inserted: set[Any] = set()
        for start in range(0, len(rows), form.rows_a_statement):
            done = form.insert(conn, rows[start : start + form.rows_a_statement])
            inserted.update(row[0] if len(row) == 1 else tuple(row) for row in done)
        return inserted

    def _form(self, dialect: Dialect) -> _Form:
        if on_spanner(dialect):
            from trunkline_store.spanner.inserts import SpannerRowForm  # noqa: PLC0415 - engines load when used

            return SpannerRowForm(self.table, self.columns, dialect, self.key)
        return RowForm(self.table, self.columns, dialect, self.key)


class _Form(Protocol):
    """How an engine writes many rows by one statement."""

    rows_a_statement: int

    def insert(self, conn: Connection, rows: Sequence[tuple[Any, ...]]) -> Iterable[Sequence[Any]]:
        """Insert the rows; the keys inserted, where it was asked for them."""


class RowForm:
    """How rows of one table become the text and the parameters of a driver-level INSERT."""

    def __init__(
        self,
        table: sa.Table,
        columns: tuple[str, ...],
        dialect: Dialect,
        key: tuple[str, ...] | None = None,
    ) -> None:
        quote = dialect.identifier_preparer
        names = ", ".join(quote.quote(name) for name in columns)
        self.width = len(columns)
        self.rows_a_statement = max(1, PARAMETERS_A_STATEMENT // self.width)
        self._returns = key is not None
        self._head = f"INSERT INTO {quote.format_table(table)} ({names}) VALUES "  # noqa: S608 - names of ours
        self._row = f"({', '.join('?' * self.width)})"
        self._tail = ""
        if key is not None:
            listed = ", ".join(quote.quote(name) for name in key)
            self._tail = f" ON CONFLICT ({listed}) DO NOTHING RETURNING {listed}"
        self._texts: dict[int, str] = {}
        self._converters = [
            (index, convert)
            for index, name in enumerate(columns)
            if (convert := _converter(table.columns[name], dialect)) is not None
        ]

    def sql(self, rows: int) -> str:
        """Return the text for that many rows; the same one each time, so the driver finds it prepared."""
        text = self._texts.get(rows)
        if text is None:
            if len(self._texts) >= 512:
                self._texts.clear()
            text = self._texts[rows] = self._head + ", ".join([self._row] * rows) + self._tail
        return text

    def insert(self, conn: Connection, rows: Sequence[tuple[Any, ...]]) -> Iterable[Sequence[Any]]:
        """Insert the rows through a connection."""
        text, binds = self.sql(len(rows)), self.flatten(rows)
        if past_sqlalchemy(conn):
            return drive(conn, text, binds, sqlite3.Cursor.fetchall)
        done = conn.exec_driver_sql(text, tuple(binds))
        return done.all() if self._returns else ()

    def flatten(self, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Return the parameters of all rows, one after another, as the driver takes them."""
        flat = list(chain.from_iterable(rows))
        for index, convert in self._converters:
            flat[index :: self.width] = _converted(flat[index :: self.width], convert)
        return flat


def _converted(values: Iterable[Any], convert: Callable[[Any], Any]) -> list[Any]:
    """Convert a column's values; the same object in row after row (a tenant, a moment, None) is converted once."""
    made: list[Any] = []
    last: Any = made  # no value is it
    converted: Any = None
    for value in values:
        if value is not last:
            last, converted = value, convert(value)
        made.append(converted)
    return made


def _converter(column: sa.Column[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return column.type.dialect_impl(dialect).bind_processor(dialect)
