"""Rows of tenants, and tenants as their readers see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import tenant_pb2
from trunkline_runtime.api.times import timestamp
from trunkline_runtime.errors import NotFound

from trunkline_tenant import ids
from trunkline_tenant.schema import tenants
from trunkline_tenant.tenants.plans import quotas_of


def load(conn: Connection, tenant: str) -> Mapping[Any, Any]:
    """Return a tenant's row. Raises NotFound, also for one that was deleted."""
    row = load_any(conn, tenant)
    if row["state"] == tenant_pb2.TENANT_STATE_DELETED:
        raise NotFound(f"tenants/{tenant}")
    return row


def load_any(conn: Connection, tenant: str) -> Mapping[Any, Any]:
    """Return a tenant's row, or its tombstone. Raises NotFound."""
    row = conn.execute(sa.select(tenants).where(tenants.c.tenant_id == tenant)).mappings().first()
    if row is None:
        raise NotFound(f"tenants/{tenant}")
    return row


def shown(row: Mapping[Any, Any]) -> tenant_pb2.Tenant:
    """Return a tenant as its readers see it."""
    tenant = tenant_pb2.Tenant(
        name=f"tenants/{row['tenant_id']}",
        display_name=row["display_name"],
        state=row["state"],
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag_of(row),
        plan=row["plan"] or tenant_pb2.PLAN_STANDARD,
        quotas=quotas_of(row["plan"]),
    )
    if row["retention"]:
        tenant.retention.ParseFromString(row["retention"])
    if row["speech_settings"]:
        tenant.speech_settings.ParseFromString(row["speech_settings"])
    if row["analysis_settings"]:
        tenant.analysis_settings.ParseFromString(row["analysis_settings"])
    if row["budget"]:
        tenant.budget.ParseFromString(row["budget"])
    if row["delete_time"] is not None:
        tenant.delete_time.CopyFrom(timestamp(row["delete_time"]))
    if row["purge_time"] is not None:
        tenant.purge_time.CopyFrom(timestamp(row["purge_time"]))
    return tenant


def etag_of(row: Mapping[Any, Any]) -> str:
    """Return what changes with every change of a tenant."""
    return ids.etag("tenant", row["tenant_id"], str(row["version"]))
