"""The revision that gives a queue's jobs the key (tenant_id, job_id); before, job_id alone was the key."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from trunkline_store.types import on_spanner

from trunkline_jobs.table import create_index, jobs_table, keyed_columns

# A commit on Spanner may have 80,000 mutations and 100 MB: a row is 24 mutations, and 220 KB with the longest history.
_ROWS_A_COMMIT = 250


def create_v3(op: Any, name: str = "jobs", *, rows_a_commit: int = _ROWS_A_COMMIT) -> None:
    """Key the jobs by tenant and id, from a service's Alembic revision (`op`); every row and index stays.

    Neither engine changes a key, so the rows move to a new table: on SQLite in the one transaction of the migration,
    on Spanner in commits of `rows_a_commit` rows.
    """
    declared = jobs_table(sa.MetaData(), name)
    if on_spanner(op.get_bind().dialect):
        _move_in_parts(op, declared, rows_a_commit)
    else:
        _move(op, declared)


def _move(op: Any, declared: sa.Table) -> None:
    name, before = declared.name, f"{declared.name}_before"
    op.rename_table(name, before)
    op.create_table(name, *keyed_columns())
    columns = [column.name for column in declared.columns]
    rows = sa.select(*_plain(before, columns).columns)
    op.get_bind().execute(sa.insert(_plain(name, columns)).from_select(columns, rows))
    op.drop_table(before)  # with its indexes
    for index in _by_name(declared):
        create_index(op, name, index)


def _move_in_parts(op: Any, declared: sa.Table, rows_a_commit: int) -> None:
    """Move the rows where neither DDL nor so many rows fit into a transaction.

    The old table loses its name first: a server of the version before then gets errors, and changes no row that was
    copied. The new one gets the name once it is complete. A run that was stopped is repeated, and goes on from there.
    """
    conn, name = op.get_bind(), declared.name
    before, made = f"{name}_before", f"{name}_keyed"
    tables = sa.inspect(conn).get_table_names()
    if before not in tables and made not in tables:
        op.rename_table(name, before)
        tables.append(before)
    if made not in tables:
        op.create_table(made, *keyed_columns())
    if before in tables:
        _copy_in_parts(conn, before, made, [column.name for column in declared.columns], rows_a_commit)
        there = _indexes(conn, before)
        for index in _by_name(declared):
            if index.name in there:
                op.drop_index(index.name, before)
        op.drop_table(before)
    there = _indexes(conn, made)
    for index in _by_name(declared):
        if index.name not in there:
            create_index(op, made, index)
    op.rename_table(made, name)


def _copy_in_parts(conn: sa.Connection, before: str, made: str, columns: list[str], rows: int) -> None:
    """Copy by the old key, each part in a commit of its own; a row that was copied already stays."""
    old, new = _plain(before, columns), _plain(made, columns)
    key = old.c.job_id
    last = ""
    while True:
        part = sa.select(key).where(key > last).order_by(key).limit(rows).subquery()
        upto = conn.execute(sa.select(sa.func.max(part.c.job_id))).scalar()
        if upto is None:
            return
        some = sa.select(*old.columns).where(key > last, key <= upto)
        conn.execute(sa.insert(new).prefix_with("OR IGNORE").from_select(columns, some))
        last = upto


def _plain(name: str, columns: list[str]) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


def _by_name(table: sa.Table) -> list[sa.Index]:
    return sorted(table.indexes, key=lambda one: str(one.name))


def _indexes(conn: sa.Connection, table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(conn).get_indexes(table)}
