"""Statements on Spanner: many rows by one, whose one parameter holds them all as an array of structs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from trunkline_store.declare import engines_own
from trunkline_store.spanner.values import Rows, code_of

# A commit holds at most 80,000 mutations, of all its statements: rows times columns and index entries.
ROWS_A_STATEMENT = 1000


def if_absent(table: sa.Table, key: Sequence[str]) -> sa.Insert:
    """Return the insert that passes over a row whose primary key is there."""
    return sa.insert(table).prefix_with("OR IGNORE")


def decides_by_primary_key(table: sa.Table, key: Sequence[str]) -> bool:
    """Say whether `if_absent` looks at another key than this one."""
    return set(key) != {column.name for column in table.primary_key.columns}


own_values = engines_own


def past_sqlalchemy(conn: Connection) -> bool:
    """Whether a statement may go straight to the driver: never, a trip to Spanner costs a hundred times that."""
    return False


class RowForm:
    """How rows of one table become the text and the parameter of an INSERT.

    With a key it looks first which are there, which inside a transaction is as good as INSERT OR IGNORE, and holds
    for unique indexes too. (OR IGNORE with THEN RETURN over an array would be one statement instead of two, but
    the emulator then names the rows that it left out.)
    """

    rows_a_statement = ROWS_A_STATEMENT

    def __init__(
        self,
        table: sa.Table,
        columns: tuple[str, ...],
        dialect: Dialect,
        key: tuple[str, ...] | None,
        mark: str | None = None,
        alike: tuple[str, ...] = (),
    ) -> None:
        """`mark` and `alike` are not needed here."""
        quote = dialect.identifier_preparer
        name = quote.format_table(table)
        self._insert = _Statement(table, columns, dialect)
        listed = ", ".join(quote.quote(column) for column in columns)
        chosen = ", ".join(f"r.f{n}" for n in range(len(columns)))
        self._insert.sql = f"INSERT INTO {name} ({listed}) SELECT {chosen} FROM UNNEST(%s) AS r"  # noqa: S608
        self._there: _Statement | None = None
        if key is not None:
            self._key = [columns.index(part) for part in key]
            self._there = _Statement(table, key, dialect)
            told = ", ".join(f"r.f{n}" for n in range(len(key)))
            same = " AND ".join(f"t.{quote.quote(part)} = r.f{n}" for n, part in enumerate(key))
            # The hint: one lookup a key, never a scan of the table.
            self._there.sql = (
                f"SELECT {told} FROM UNNEST(%s) AS r "  # noqa: S608 - names of ours
                f"INNER JOIN@{{JOIN_METHOD=APPLY_JOIN}} {name} AS t ON {same}"
            )

    def insert(
        self, conn: Connection, rows: Sequence[tuple[Any, ...]], tell: bool = True
    ) -> Sequence[Sequence[Any]]:
        """Insert the rows through a connection; the keys inserted, where there is a key."""
        if not rows:
            return []
        if self._there is None:
            self._insert.run(conn, rows)
            return []
        new: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for row in rows:  # of rows with one key the first counts
            new.setdefault(tuple(row[index] for index in self._key), row)
        for there in self._there.run(conn, list(new)):
            new.pop(tuple(there), None)
        if new:
            self._insert.run(conn, list(new.values()))
        return list(new)


class _Statement:
    """A statement whose one parameter is an array of rows of some columns."""

    def __init__(self, table: sa.Table, columns: Sequence[str], dialect: Dialect) -> None:
        self.sql = ""
        # A struct's fields are named apart from the columns, so that no name can be ambiguous.
        self._fields = tuple((f"f{n}", code_of(table.columns[name])) for n, name in enumerate(columns))
        types = [table.columns[column].type.dialect_impl(dialect) for column in columns]
        self._converters = [
            (index, convert)
            for index, kind in enumerate(types)
            if (convert := kind.bind_processor(dialect)) is not None
        ]

    def run(self, conn: Connection, rows: Sequence[tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
        """Run it over the rows."""
        sent = Rows(self._fields, [self._converted(row) for row in rows])
        done = conn.exec_driver_sql(self.sql, (sent,))
        return done.all() if done.returns_rows else []

    def _converted(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for index, convert in self._converters:
            values[index] = convert(values[index])
        return tuple(values)
