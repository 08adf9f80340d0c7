"""The table of operations, and the revision that creates it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from trunkline_store import Bytes, Text, UtcTimestamp
from trunkline_store.declare import index_options, table_options

TABLE = "operations"


def operations_table(metadata: sa.MetaData) -> sa.Table:
    """Declare the table in a service's metadata, beside its queue's (jobs_table).

    A running operation has a job of the same id. A job's row goes when its operation ends; the operation's row stays
    until it expires.
    """
    table = sa.Table(TABLE, metadata, *_columns(), info=table_options(expire=("expire_at", 0)))
    c = table.c
    sa.Index(f"{TABLE}_by_time", c.tenant_id, c.created_at, c.operation_id, info=index_options())
    sa.Index(f"{TABLE}_by_expiry", c.tenant_id, c.expire_at, info=index_options(null_filtered=True))
    return table


def create_operations_v1(op: Any) -> None:
    """Create the table as of its first version, from a service's Alembic revision (`op`).

    A later version of this library adds create_operations_v2 and so on: a revision that has run never changes.
    """
    op.create_table(TABLE, *_columns(), info=table_options(expire=("expire_at", 0)))
    op.create_index(
        f"{TABLE}_by_time", TABLE, ["tenant_id", "created_at", "operation_id"], info=index_options()
    )
    expiring = index_options(null_filtered=True)
    op.create_index(f"{TABLE}_by_expiry", TABLE, ["tenant_id", "expire_at"], info=expiring)


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("operation_id", Text(40), primary_key=True),
        sa.Column("kind", Text(64), nullable=False),
        sa.Column("state", Text(16), nullable=False),
        # The serialised request that started it: names and options, never content or a credential.
        sa.Column("request", Bytes, nullable=False),
        # The metadata as a serialised google.protobuf.Any, without its progress, which the other columns tell.
        sa.Column("metadata", Bytes, nullable=False),
        sa.Column("response", Bytes),  # google.protobuf.Any, of one that succeeded
        sa.Column("error", Bytes),  # google.rpc.Status, of one that failed or was cancelled
        sa.Column("problem", Bytes),  # google.rpc.Status: why it waits, while it runs
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("requested_by", Text(200), nullable=False),
        sa.Column("created_at", UtcTimestamp, nullable=False),
        sa.Column("ended_at", UtcTimestamp),
        sa.Column("expire_at", UtcTimestamp),  # from when it is gone; never while it runs
    ]
