"""Deleting many rows a few at a time, so that no transaction holds the writer for long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.database import Database

ROWS_A_TRANSACTION = 200


def delete_some(
    conn: Connection, table: sa.Table, condition: sa.ColumnElement[bool], most: int = ROWS_A_TRANSACTION
) -> int:
    """Delete at most `most` of the rows that fit, in the open transaction; how many."""
    key = list(table.primary_key.columns)
    found = conn.execute(sa.select(*key).where(condition).limit(most)).all()
    delete_keys(conn, table, found)
    return len(found)


def delete_keys(conn: Connection, table: sa.Table, keys: Sequence[Any]) -> None:
    """Delete the rows with these primary keys (tuples in the order of the key's columns)."""
    if not keys:
        return
    names = [f"key_{number}" for number in range(len(table.primary_key.columns))]
    columns = list(table.primary_key.columns)
    itself = [
        column == sa.bindparam(name, type_=column.type) for column, name in zip(columns, names, strict=True)
    ]
    conn.execute(sa.delete(table).where(*itself), [dict(zip(names, key, strict=True)) for key in keys])


async def delete_all(
    db: Database,
    table: sa.Table,
    condition: sa.ColumnElement[bool],
    *,
    a_transaction: int = ROWS_A_TRANSACTION,
    most: int | None = None,
) -> int:
    """Delete the rows that fit, `most` at most, in transactions of `a_transaction` rows; how many."""
    total = 0
    while most is None or total < most:
        step = a_transaction if most is None else min(a_transaction, most - total)
        done = await db.write(
            lambda conn: delete_some(conn, table, condition, step),  # noqa: B023 - awaited here
            background=True,
        )
        total += done
        if done < step:
            break
    return total


async def owners(db: Database, table: sa.Table) -> AsyncIterator[str]:
    """Yield the tenants that have rows in a table, which `tenant_id` leads the key of, a step of the key each.

    A sweep goes tenant by tenant: an index that time alone leads would take all writes at its end on Spanner.
    """
    column = table.c.tenant_id
    query = sa.select(column).order_by(column).limit(1)
    tenant = await db.read(lambda conn: conn.execute(query).scalar())
    while tenant is not None:
        yield tenant
        later = query.where(column > tenant)
        tenant = await db.read(lambda conn: conn.execute(later).scalar())  # noqa: B023 - awaited right here
