"""Tenants: created, shown, listed, changed, suspended; deletion.py deletes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.common.v1 import purge_pb2
from trunkline.tenant.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc
from trunkline_runtime.api import paging, resources
from trunkline_runtime.api.times import timestamp
from trunkline_runtime.errors import AlreadyExists, InvalidArgument
from trunkline_runtime.identity.callers import current_caller
from trunkline_store import Database, insert_if_absent
from trunkline_store.records.keyset import Page

from trunkline_tenant import masks, requests
from trunkline_tenant.schema import tenants
from trunkline_tenant.source_changes import tenant_changed
from trunkline_tenant.tenants import deletion
from trunkline_tenant.tenants.names import tidy_names
from trunkline_tenant.tenants.rows import etag_of, load, load_any, shown

_CREATE = "CreateTenant"
_CHANGEABLE = (
    "display_name", "state", "retention", "plan", "speech_settings", "analysis_settings", "budget",
)  # fmt: skip
_OPEN: dict[str, bytes | None] = {
    "retention": b"",
    "speech_settings": None,
    "analysis_settings": None,
    "budget": None,
}  # as they are kept when they are empty
_OF_SOURCES = ("state", "retention", "plan", "speech_settings", "analysis_settings")


class TenantService(tenant_service_pb2_grpc.TenantServiceServicer):
    """trunkline.tenant.v1.TenantService. `sources_changed` wakes whoever watches sources."""

    def __init__(self, db: Database, sources_changed: Callable[[], None]) -> None:
        self._db = db
        self._sources_changed = sources_changed

    async def CreateTenant(
        self, request: tenant_service_pb2.CreateTenantRequest, context: object
    ) -> tenant_pb2.Tenant:
        """Create a tenant, or show what the same request made before."""
        check_display_name(request.tenant.display_name)
        _check_state(request.tenant)
        tidy_names(request.tenant.analysis_settings)
        row = await self._db.write(lambda conn: _create(conn, request, self._db.clock.now()))
        return shown(row)

    async def GetTenant(
        self, request: tenant_service_pb2.GetTenantRequest, context: object
    ) -> tenant_pb2.Tenant:
        """Show a tenant, to operators and services also the tombstone of a deleted one."""
        tenant = resources.tenant_of(request.name)
        find = load if current_caller().is_of_tenant else load_any
        return shown(await self._db.read(lambda conn: find(conn, tenant)))

    async def ListTenants(
        self, request: tenant_service_pb2.ListTenantsRequest, context: object
    ) -> tenant_service_pb2.ListTenantsResponse:
        """List every tenant."""
        select = sa.select(tenants).where(tenants.c.state != tenant_pb2.TENANT_STATE_DELETED)
        page = Page(select, [tenants.c.tenant_id], paging.place_of(request, "ListTenants", ""))
        rows, token = await self._db.scan(page.fetch)
        return tenant_service_pb2.ListTenantsResponse(
            tenants=[shown(row._mapping) for row in rows], next_page_token=token
        )

    async def UpdateTenant(
        self, request: tenant_service_pb2.UpdateTenantRequest, context: object
    ) -> tenant_pb2.Tenant:
        """Change a tenant; suspending it closes its sources and its keys."""
        fields = masks.fields_to_change(request.tenant, request.update_mask, _CHANGEABLE, _OPEN)
        if "display_name" in fields:
            check_display_name(request.tenant.display_name)
        if "state" in fields:
            _check_state(request.tenant)
        tidy_names(request.tenant.analysis_settings)
        row = await self._db.write(lambda conn: _update(conn, request.tenant, fields, self._db.clock.now()))
        self._sources_changed()
        return shown(row)

    async def DeleteTenant(
        self, request: tenant_service_pb2.DeleteTenantRequest, context: object
    ) -> tenant_pb2.Tenant:
        """Make a tombstone of a tenant; the gateway has every service remove its data."""
        tenant = resources.tenant_of(request.name)
        await self._db.write(
            lambda conn: deletion.delete(
                conn, tenant, force=request.force, etag=request.etag, now=self._db.clock.now()
            )
        )
        self._sources_changed()
        return shown(await self._db.read(lambda conn: load_any(conn, tenant)))

    async def ListTombstones(
        self, request: tenant_service_pb2.ListTombstonesRequest, context: object
    ) -> tenant_service_pb2.ListTombstonesResponse:
        """List what is left of deleted tenants, to the gateway."""
        select = sa.select(tenants).where(tenants.c.state == tenant_pb2.TENANT_STATE_DELETED)
        page = Page(select, [tenants.c.tenant_id], paging.place_of(request, "ListTombstones"))
        rows, token = await self._db.scan(page.fetch)
        answer = tenant_service_pb2.ListTombstonesResponse(next_page_token=token)
        for row in rows:
            answer.tombstones.add(
                tenant_id=row.tenant_id,
                delete_time=timestamp(row.delete_time),
                purge_time=timestamp(row.purge_time) if row.purge_time else None,
            )
        return answer

    async def PurgeTenant(
        self, request: purge_pb2.PurgeTenantRequest, context: object
    ) -> purge_pb2.PurgeTenantResponse:
        """Remove a part of what is kept of a tenant, for the gateway."""
        tenant = resources.tenant_of(request.name)
        removed, more = await deletion.purge(self._db, tenant)
        self._sources_changed()
        return purge_pb2.PurgeTenantResponse(removed_count=removed, more=more)

    async def ConfirmPurge(
        self, request: tenant_service_pb2.ConfirmPurgeRequest, context: object
    ) -> tenant_pb2.Tenant:
        """Note that nothing of a tenant is left anywhere, for the gateway."""
        tenant = resources.tenant_of(request.name)
        await self._db.write(lambda conn: deletion.confirm(conn, tenant, self._db.clock.now()))
        return shown(await self._db.read(lambda conn: load_any(conn, tenant)))


def check_display_name(name: str) -> None:
    """Raise InvalidArgument unless a tenant may be called so."""
    if not name.strip():
        raise InvalidArgument("tenant.display_name", "must have 1 to 120 characters")


def _check_state(tenant: tenant_pb2.Tenant) -> None:
    if tenant.state == tenant_pb2.TENANT_STATE_DELETED:
        raise InvalidArgument("tenant.state", "is set by DeleteTenant")


def _create(
    conn: Connection, request: tenant_service_pb2.CreateTenantRequest, now: datetime
) -> Mapping[Any, Any]:
    tenant = request.tenant_id
    asked = requests.Creation(tenant, _CREATE, request.request_id, requests.content(request))
    if requests.earlier(conn, asked, now) is not None:
        return load(conn, tenant)
    row = {
        "tenant_id": tenant,
        "display_name": request.tenant.display_name,
        "state": request.tenant.state or tenant_pb2.TENANT_STATE_ACTIVE,
        "retention": request.tenant.retention.SerializeToString(deterministic=True),
        "plan": request.tenant.plan,
        "speech_settings": request.tenant.speech_settings.SerializeToString(deterministic=True) or None,
        "analysis_settings": request.tenant.analysis_settings.SerializeToString(deterministic=True) or None,
        "budget": request.tenant.budget.SerializeToString(deterministic=True) or None,
        "delete_time": None,
        "purge_time": None,
        "version": 1,
        "create_time": now,
        "update_time": now,
    }
    if not insert_if_absent(conn, tenants, row, ["tenant_id"]):
        raise _taken(load_any(conn, tenant))
    requests.remember(conn, asked, f"tenants/{tenant}", now)
    return row


def _taken(there: Mapping[Any, Any]) -> AlreadyExists:
    """Say why an id cannot be given: lists do not show the tombstone that has it."""
    name = f"tenants/{there['tenant_id']}"
    if there["state"] != tenant_pb2.TENANT_STATE_DELETED:
        return AlreadyExists(name)
    when = there["delete_time"].strftime("%Y-%m-%dT%H:%M:%SZ")
    return AlreadyExists.of(
        f"{name} was deleted at {when}; its id cannot be used again; choose another id",
        reason="TENANT_DELETED",
        metadata={"resource": name, "delete_time": when},
    )


def _update(
    conn: Connection, wanted: tenant_pb2.Tenant, fields: Sequence[str], now: datetime
) -> Mapping[Any, Any]:
    tenant = resources.parse("tenants/{tenant}", wanted.name, field="tenant.name")["tenant"]
    row = dict(load(conn, tenant))
    masks.check_etag(wanted.etag, etag_of(row), wanted.name)
    values: dict[str, Any] = {}
    if "display_name" in fields:
        values["display_name"] = wanted.display_name
    if "state" in fields:
        values["state"] = wanted.state or tenant_pb2.TENANT_STATE_ACTIVE
    if "plan" in fields:
        values["plan"] = wanted.plan
    for name, empty in _OPEN.items():
        if any(path.partition(".")[0] == name for path in fields):
            values[name] = masks.merged(name, row[name], wanted, fields) or empty
    if all(row[name] == value for name, value in values.items()):
        return row
    values |= {"version": row["version"] + 1, "update_time": now}
    conn.execute(sa.update(tenants).where(tenants.c.tenant_id == tenant).values(**values))
    if any(values.get(name, row[name]) != row[name] for name in _OF_SOURCES):
        tenant_changed(conn, tenant, now)
    return row | values
