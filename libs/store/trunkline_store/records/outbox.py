"""Messages that a service owes another one: kept in its own store until they are delivered, at least once each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.database import Database
from trunkline_store.records.deletion import delete_keys, owners
from trunkline_store.types import Bytes, Text, UtcTimestamp

MOST_AT_ONCE = 200
"""Messages of one tenant in one delivery."""

Deliver = Callable[[str, Sequence[bytes]], Awaitable[None]]
"""Takes a tenant and its messages, the oldest first, and returns when they need not be delivered again."""


def outbox_table(metadata: sa.MetaData, name: str) -> sa.Table:
    """Declare an outbox in a service's metadata; a revision creates it with `outbox_columns`."""
    return sa.Table(name, metadata, *outbox_columns())


def outbox_columns() -> list[sa.Column[Any]]:
    """Return the table's columns as of its first version."""
    return [
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("message_id", Text(40), primary_key=True),
        sa.Column("message", Bytes, nullable=False),
        sa.Column("created_at", UtcTimestamp, nullable=False),
    ]


class Outbox:
    """One table of messages. They are few: what is delivered goes."""

    def __init__(self, db: Database, table: sa.Table) -> None:
        """Take the store, and the table that `outbox_table` declared in it."""
        self._db = db
        self._table = table

    async def keep(self, tenant: str, message_id: str, message: bytes) -> None:
        """Keep a message; `message_id` is new."""
        now = self._db.clock.now()
        row = {"tenant_id": tenant, "message_id": message_id, "message": message, "created_at": now}
        await self._db.write(lambda conn: conn.execute(sa.insert(self._table), row))

    async def deliver(self, deliver: Deliver, failed: Callable[[str, Exception], bool]) -> int:
        """Have every tenant's messages delivered, a part of them at a time; how many were.

        `failed` is told of a tenant whose messages could not be delivered, and says whether they are kept for a later
        run. One tenant's failure does not hold up the others.
        """
        delivered = 0
        async for tenant in owners(self._db, self._table):
            while messages := await self._db.read(lambda conn: self._oldest(conn, tenant)):  # noqa: B023 - at once
                try:
                    await deliver(tenant, [bytes(row.message) for row in messages])
                except Exception as error:
                    if failed(tenant, error):
                        break
                keys = [(tenant, row.message_id) for row in messages]
                await self._db.write(lambda conn: delete_keys(conn, self._table, keys))  # noqa: B023 - at once
                delivered += len(messages)
                if len(messages) < MOST_AT_ONCE:
                    break
        return delivered

    def _oldest(self, conn: Connection, tenant: str) -> Sequence[Any]:
        c = self._table.c
        query = sa.select(c.message_id, c.message).where(c.tenant_id == tenant)
        return conn.execute(query.order_by(c.created_at, c.message_id).limit(MOST_AT_ONCE)).all()
