"""LeadService: shows and lists leads; they are made by recording calls."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.common.v1 import labels_pb2
from trunkline.tenant.v1 import lead_pb2, lead_service_pb2, lead_service_pb2_grpc
from trunkline_runtime.api import paging, resources
from trunkline_runtime.api.columns import Filter, by_enum, conditions
from trunkline_runtime.api.filters import FieldType, Value
from trunkline_runtime.errors import NotFound
from trunkline_store import Database
from trunkline_store.records.keyset import Page

from trunkline_tenant.leads import phone_numbers
from trunkline_tenant.leads import rows as lead_rows
from trunkline_tenant.schema import leads


def _number(value: Value) -> str:
    return phone_numbers.read(str(value)).text


FILTERS = {
    "lead_level": by_enum("lead_level", leads.c.lead_level, labels_pb2.LeadLevel, "LEAD_LEVEL_"),
    "lead_score": Filter(FieldType.INTEGER, leads.c.lead_score),
    "phone_number": Filter(FieldType.STRING, leads.c.phone_number, _number),
    "last_call_time": Filter(FieldType.TIMESTAMP, leads.c.last_call_time),
}


class LeadService(lead_service_pb2_grpc.LeadServiceServicer):
    """trunkline.tenant.v1.LeadService. `staleness` is how old a list may be; what is asked by name is the latest."""

    def __init__(self, db: Database, staleness: timedelta | None = None) -> None:
        self._db = db
        self._staleness = staleness

    async def GetLead(self, request: lead_service_pb2.GetLeadRequest, context: object) -> lead_pb2.Lead:
        """Show a lead."""
        name = resources.parse("tenants/{tenant}/leads/{lead}", request.name)
        return await self._db.read(lambda conn: _get(conn, name["tenant"], name["lead"]))

    async def ListLeads(
        self, request: lead_service_pb2.ListLeadsRequest, context: object
    ) -> lead_service_pb2.ListLeadsResponse:
        """List a tenant's leads, the latest caller first."""
        tenant = resources.tenant_of(request.parent, field="parent")
        page = Page(
            select=sa.select(leads).where(leads.c.tenant_id == tenant, *conditions(request.filter, FILTERS)),
            key=[leads.c.last_call_time, leads.c.lead_id],
            place=paging.place_of(request, "ListLeads", tenant, request.filter),
            descending=True,
        )
        read = page.made(lambda row: lead_rows.shown(row._mapping))
        shown, token = await self._db.scan(read, staleness=self._staleness)
        return lead_service_pb2.ListLeadsResponse(leads=shown, next_page_token=token)


def _get(conn: Connection, tenant: str, lead: str) -> lead_pb2.Lead:
    row = (
        conn.execute(sa.select(leads).where(leads.c.tenant_id == tenant, leads.c.lead_id == lead))
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"tenants/{tenant}/leads/{lead}")
    return lead_rows.shown(row)
