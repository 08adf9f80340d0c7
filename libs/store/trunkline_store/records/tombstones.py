"""Tombstones of deleted tenants: what a service looks at, in the same transaction, before it keeps anything."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.hot import Hot
from trunkline_store.inserts import insert_if_absent
from trunkline_store.types import Text, UtcTimestamp

TABLE = "deleted_tenants"


def tombstones_table(metadata: sa.MetaData) -> sa.Table:
    """Declare the table in a service's metadata; a revision creates it with `tombstones_columns`."""
    return sa.Table(TABLE, metadata, *tombstones_columns())


def tombstones_columns() -> list[sa.Column[object]]:
    """Return the table's columns as of its first version."""
    return [
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("deleted_at", UtcTimestamp, nullable=False),
    ]


def bury(conn: Connection, table: sa.Table, tenant: str, at: datetime) -> bool:
    """Make a tenant's tombstone unless it is there; True when this call made it."""
    return insert_if_absent(conn, table, {"tenant_id": tenant, "deleted_at": at}, ["tenant_id"])


def buried(conn: Connection, table: sa.Table, tenants: Collection[str]) -> set[str]:
    """Return those of the tenants that were deleted."""
    if not tenants:
        return set()
    return {row["tenant_id"] for row in _buried(table).all(conn, {"tenants": sorted(tenants)})}


@lru_cache(maxsize=16)
def _buried(table: sa.Table) -> Hot:
    """Return the question, built once a table."""
    among = table.c.tenant_id.in_(sa.bindparam("tenants", expanding=True))
    return Hot(sa.select(table.c.tenant_id).where(among))
