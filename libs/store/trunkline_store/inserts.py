"""Inserts: if absent, by key; and many rows by one statement whose text is made once a size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.engines import module_of, statements_of
from trunkline_store.hot import Hot


def insert_if_absent(
    conn: Connection, table: sa.Table, values: Mapping[str, Any], key: Sequence[str]
) -> bool:
    """Insert a row unless one with the same `key` is there; True when this call inserted it.

    `key` names the columns of the primary key or of one unique index. Any other constraint that the row
    violates is an error, as with a plain insert: Conflict or InvalidValue.
    """
    if statements_of(conn.dialect).decides_by_primary_key(table, key):
        # Inside the transaction looking first is as good.
        there = sa.select(sa.literal(1)).where(*[table.c[name] == values[name] for name in key]).limit(1)
        if conn.execute(there).first() is not None:
            return False
    return _if_absent(table, tuple(key), conn.dialect.name).run(conn, values) == 1


def insert_appended(conn: Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
    """Insert a row into an append-only table inside a transaction, with what its appender would give it."""
    own = statements_of(conn.dialect).own_values(table, values)
    conn.execute(sa.insert(table), {**values, **own})


@lru_cache(maxsize=256)
def _if_absent(table: sa.Table, key: tuple[str, ...], dialect: str) -> Hot:
    return Hot(module_of(dialect, "statements").if_absent(table, key))


class BulkInsert:
    """Many rows of one shape into one table; rows are tuples in the order of `columns`, Python values.

    SQLAlchemy's own multi-row insert costs 70 microseconds a row, this about 2. With `if_absent` (the key's
    columns) rows whose key is there already are passed over, and `run` tells the keys that were inserted. It tells them
    for less where `mark` names a column of which each row that is given has a value that no row of the table has.
    """

    def __init__(
        self,
        table: sa.Table,
        columns: Sequence[str] | None = None,
        if_absent: Sequence[str] | None = None,
        mark: str | None = None,
        alike: Sequence[str] = (),
    ) -> None:
        """`alike` names columns that mostly hold the same object in many rows: that is cheaper on SQLite."""
        self.table = table
        self.columns = tuple(columns) if columns is not None else tuple(c.name for c in table.columns)
        self.key = tuple(if_absent) if if_absent is not None else None
        self.mark = mark
        self.alike = tuple(alike)
        self._forms: dict[str, _InsertsRows] = {}

    def run(self, conn: Connection, rows: Sequence[tuple[Any, ...]], *, tell: bool = True) -> set[Any]:
        """Insert the rows; the keys inserted (plain values for a key of one column, tuples for more).

        Without `if_absent` every row is inserted or the statement fails, and the set is empty. So it is where nobody
        wants to be told.
        """
        form = self._forms.get(conn.dialect.name)
        if form is None:
            made = statements_of(conn.dialect).RowForm
            form = made(self.table, self.columns, conn.dialect, self.key, self.mark, self.alike)
            self._forms[conn.dialect.name] = form
        inserted: set[Any] = set()
        for start in range(0, len(rows), form.rows_a_statement):
            done = form.insert(conn, rows[start : start + form.rows_a_statement], tell)
            if tell:
                inserted.update(row[0] if len(row) == 1 else tuple(row) for row in done)
        return inserted


class _InsertsRows(Protocol):
    """How an engine writes many rows by one statement."""

    rows_a_statement: int

    def insert(
        self, conn: Connection, rows: Sequence[tuple[Any, ...]], tell: bool
    ) -> Iterable[Sequence[Any]]:
        """Insert the rows; the keys inserted, where there is a key and they are to be told."""
