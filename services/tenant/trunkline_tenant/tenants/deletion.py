"""Deleting a tenant: a tombstone at once, then its data in small transactions.

The tombstone stays: its id is not given again, and whatever comes late, or back from a backup, finds it.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import tenant_pb2
from trunkline_runtime.errors import FailedPrecondition, NotFound
from trunkline_store import Database, insert_if_absent
from trunkline_store.records.deletion import delete_all

from trunkline_tenant import masks
from trunkline_tenant.schema import (
    api_keys,
    call_aliases,
    call_events,
    calls,
    charges,
    day_costs,
    leads,
    month_costs,
    requests,
    source_changes,
    source_secrets,
    sources,
    tenants,
)
from trunkline_tenant.source_changes import tenant_deleted
from trunkline_tenant.tenants import rows as tenant_rows

_DATA = (sources, calls, leads)
# People configure these, so that they are few: they go with the tombstone.
_CONFIGURED = (source_secrets, sources, api_keys, requests)
_RECORDED = (call_events, call_aliases, calls, leads, charges, day_costs, month_costs)
_ROWS_A_CALL = 2_000


def delete(conn: Connection, tenant: str, *, force: bool, etag: str, now: datetime) -> None:
    """Make a tombstone of a tenant; one that is there already stays as it is.

    Raises NotFound, Aborted, FailedPrecondition when there is data and no `force`.
    """
    row = tenant_rows.load_any(conn, tenant)
    if row["state"] == tenant_pb2.TENANT_STATE_DELETED:
        return
    masks.check_etag(etag, tenant_rows.etag_of(row), f"tenants/{tenant}")
    if not force and _has_data(conn, tenant):
        raise FailedPrecondition(
            "the tenant has sources, calls or leads; force deletes them too", reason="TENANT_HAS_DATA"
        )
    _bury(conn, tenant, now, row["version"])


async def purge(db: Database, tenant: str) -> tuple[int, bool]:
    """Remove a part of what is kept of a tenant, making its tombstone if needed; how many rows, and if more is left.

    A tenant that lives is made a tombstone too: the gateway says so, whose tombstone is newer than this store when
    that was restored from a backup.
    """
    now = db.clock.now()
    await db.write(lambda conn: _ensure_tombstone(conn, tenant, now))
    removed = 0
    for table in _RECORDED:
        removed += await delete_all(db, table, table.c.tenant_id == tenant, most=_ROWS_A_CALL - removed)
        if removed >= _ROWS_A_CALL:
            return removed, True
    return removed, False


def confirm(conn: Connection, tenant: str, now: datetime) -> None:
    """Note that nothing of a tenant is left anywhere. Raises NotFound when there is no tombstone."""
    row = tenant_rows.load_any(conn, tenant)
    if row["state"] != tenant_pb2.TENANT_STATE_DELETED:
        raise NotFound(f"tenants/{tenant}")
    if row["purge_time"] is None:
        itself = tenants.c.tenant_id == tenant
        conn.execute(sa.update(tenants).where(itself).values(purge_time=now))


def _has_data(conn: Connection, tenant: str) -> bool:
    return any(
        conn.execute(sa.select(table.c.tenant_id).where(table.c.tenant_id == tenant).limit(1)).first()
        for table in _DATA
    )


def _ensure_tombstone(conn: Connection, tenant: str, now: datetime) -> None:
    values = {
        "tenant_id": tenant,
        "display_name": "",
        "state": tenant_pb2.TENANT_STATE_DELETED,
        "retention": b"",
        "speech_settings": None,
        "analysis_settings": None,
        "budget": None,
        "delete_time": now,
        "purge_time": None,
        "version": 1,
        "create_time": now,
        "update_time": now,
    }
    if insert_if_absent(conn, tenants, values, ["tenant_id"]):
        return
    row = tenant_rows.load_any(conn, tenant)
    if row["state"] != tenant_pb2.TENANT_STATE_DELETED or _configured_or_told(conn, tenant):
        _bury(conn, tenant, row["delete_time"] or now, row["version"])


def _configured_or_told(conn: Connection, tenant: str) -> bool:
    return any(
        conn.execute(sa.select(table.c.tenant_id).where(table.c.tenant_id == tenant).limit(1)).first()
        for table in (*_CONFIGURED, source_changes)
    )


def _bury(conn: Connection, tenant: str, now: datetime, version: int) -> None:
    tenant_deleted(conn, tenant, now)
    for table in _CONFIGURED:
        conn.execute(sa.delete(table).where(table.c.tenant_id == tenant))
    conn.execute(
        sa.update(tenants)
        .where(tenants.c.tenant_id == tenant)
        .values(
            display_name="",
            state=tenant_pb2.TENANT_STATE_DELETED,
            retention=b"",
            speech_settings=None,
            analysis_settings=None,
            budget=None,
            delete_time=now,
            purge_time=None,
            version=version + 1,
            update_time=now,
        )
    )
