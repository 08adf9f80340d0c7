"""Request ids: a create that is repeated within a day is answered with what the first one made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.engine import Connection
from trunkline_runtime.digests import digest
from trunkline_runtime.errors import InvalidArgument

from trunkline_tenant.schema import requests

KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Creation:
    """A create that carries a request id (empty: none), and the digest of what it asks for."""

    tenant: str
    method: str
    request_id: str
    digest: bytes


def earlier(conn: Connection, asked: Creation, now: datetime) -> str | None:
    """Return the name that the first request made, None for a new one.

    Raises InvalidArgument when the id was used for a request with different content.
    """
    if not asked.request_id:
        return None
    row = conn.execute(
        sa.select(requests.c.name, requests.c.digest).where(
            requests.c.tenant_id == asked.tenant,
            requests.c.method == asked.method,
            requests.c.request_id == asked.request_id,
            requests.c.create_time > now - KEPT,
        )
    ).first()
    if row is None:
        return None
    if bytes(row.digest) != asked.digest:
        raise InvalidArgument(
            "request_id", "was used for a request with different content", reason="REQUEST_ID_REUSED"
        )
    name: str = row.name
    return name


def remember(conn: Connection, asked: Creation, name: str, now: datetime) -> None:
    """Keep what a request made, and forget the tenant's old ones."""
    if not asked.request_id:
        return
    conn.execute(
        sa.delete(requests).where(requests.c.tenant_id == asked.tenant, requests.c.create_time <= now - KEPT)
    )
    conn.execute(
        sa.insert(requests).values(
            tenant_id=asked.tenant,
            method=asked.method,
            request_id=asked.request_id,
            digest=asked.digest,
            name=name,
            create_time=now,
        )
    )


def content(request: Message) -> bytes:
    """Return the digest of what was asked; pass a copy without secrets."""
    return digest(request.SerializeToString(deterministic=True), width=8)
