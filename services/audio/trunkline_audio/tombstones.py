"""Tombstones of recordings and transcripts that were deleted on request: neither is made again under its id."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_runtime.errors import FailedPrecondition
from trunkline_store.hot import Hot
from trunkline_store.inserts import insert_if_absent

from trunkline_audio.schema import deleted_resources

_KEY = ["tenant_id", "name"]
_ONE = Hot(
    sa.select(deleted_resources.c.deleted_at).where(
        deleted_resources.c.tenant_id == sa.bindparam("tenant"),
        deleted_resources.c.name == sa.bindparam("name"),
    )
)


def leave(conn: Connection, tenant: str, name: str, at: datetime) -> None:
    """Make the tombstone of a resource (its whole name), unless it is there."""
    insert_if_absent(conn, deleted_resources, {"tenant_id": tenant, "name": name, "deleted_at": at}, _KEY)


def refuse(conn: Connection, tenant: str, name: str, reason: str) -> None:
    """Raise FailedPrecondition with a reason for a resource that was deleted on request."""
    row = _ONE.first(conn, {"tenant": tenant, "name": name})
    if row is not None:
        raise FailedPrecondition(f"{name} was deleted on request", reason=reason)
