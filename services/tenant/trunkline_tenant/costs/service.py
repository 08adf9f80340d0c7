"""CostService: counts charges, and shows what tenants cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from google.protobuf.empty_pb2 import Empty
from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import cost_pb2, cost_service_pb2, cost_service_pb2_grpc
from trunkline_runtime.api import paging, resources
from trunkline_runtime.api.times import timestamp
from trunkline_runtime.identity.callers import current_caller
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter
from trunkline_store import Database
from trunkline_store.records.keyset import Page

from trunkline_tenant.costs.budgets import budget_of, mark_passed, percent_of, state_of
from trunkline_tenant.costs.rows import add, day_rows, end_of, month_of, month_row, usage_of
from trunkline_tenant.schema import month_costs, tenants
from trunkline_tenant.tenants import rows as tenant_rows

log = get_logger(__name__)

_marks = counter("trunkline_budget_marks_total", "Months in which a tenant's cost passed a mark", ["mark"])


class CostService(cost_service_pb2_grpc.CostServiceServicer):
    """trunkline.tenant.v1.CostService. `staleness` is how old a list may be; what is asked by name is the latest."""

    def __init__(self, db: Database, staleness: timedelta | None = None) -> None:
        self._db = db
        self._staleness = staleness

    async def GetCosts(self, request: cost_service_pb2.GetCostsRequest, context: object) -> cost_pb2.Costs:
        """Show what a tenant's month cost."""
        tenant = resources.parse("tenants/{tenant}/costs", request.name)["tenant"]
        month = request.month or month_of(self._db.clock.now())
        return await self._db.read(lambda conn: _costs(conn, tenant, month))

    async def ListCosts(
        self, request: cost_service_pb2.ListCostsRequest, context: object
    ) -> cost_service_pb2.ListCostsResponse:
        """List what each tenant's month cost."""
        month = request.month or month_of(self._db.clock.now())
        c = month_costs.c
        select = (
            sa.select(month_costs, tenants.c.budget)
            .join(tenants, tenants.c.tenant_id == c.tenant_id)
            .where(c.month == month)
        )
        page = Page(select, [c.tenant_id], paging.place_of(request, "ListCosts", month))
        rows, token = await self._db.scan(page.fetch, staleness=self._staleness)
        shown = [_shown(row.tenant_id, month, row._mapping, row._mapping) for row in rows]
        return cost_service_pb2.ListCostsResponse(costs=shown, next_page_token=token)

    async def RecordCharges(self, request: cost_service_pb2.RecordChargesRequest, context: object) -> Empty:
        """Count charges of the service that asks."""
        tenant = resources.tenant_of(request.parent, field="parent")
        service = current_caller().subject or ""
        now = self._db.clock.now()

        def work(conn: Connection) -> list[tuple[str, str]]:
            budget = budget_of(tenant_rows.load(conn, tenant))
            passed = []
            for month, more in add(conn, tenant, service, request.charges, now).items():
                row = month_row(conn, tenant, month)
                after = row["cost_micros"] if row is not None else 0
                if mark := mark_passed(budget, after - more, after):
                    passed.append((month, mark))
            return passed

        for month, mark in await self._db.write(work):
            _marks.labels(mark).inc()
            log.warning("budget_mark_passed", tenant=tenant, month=month, mark=mark)
        return Empty()


def _costs(conn: Connection, tenant: str, month: str) -> cost_pb2.Costs:
    owner = tenant_rows.load(conn, tenant)
    costs = _shown(tenant, month, owner, month_row(conn, tenant, month))
    rows = day_rows(conn, tenant, month)
    for (service, engine), sums in sorted(
        _summed(rows, "service", "engine").items(), key=lambda item: (-item[1]["cost_micros"], item[0])
    ):
        costs.engines.add(
            service=service,
            engine=engine,
            usage=usage_of(sums),
            answer_count=sums["answers"],
            unpriced_count=sums["unpriced"],
        )
    for (day,), sums in sorted(_summed(rows, "day").items()):
        costs.days.add(day=day, usage=usage_of(sums), answer_count=sums["answers"])
    return costs


def _shown(
    tenant: str, month: str, owner: Mapping[Any, Any], sums: Mapping[Any, Any] | None
) -> cost_pb2.Costs:
    """Return a month as its readers see it; `owner` has the tenant's budget, `sums` are None without a charge."""
    costs = cost_pb2.Costs(name=f"tenants/{tenant}/costs", month=month, reset_time=timestamp(end_of(month)))
    if sums is not None:
        costs.usage.CopyFrom(usage_of(sums))
        costs.answer_count, costs.unpriced_count = sums["answers"], sums["unpriced"]
    budget = budget_of(owner)
    if budget.monthly_micros:
        costs.budget.CopyFrom(budget)
    costs.budget_state = state_of(budget, costs.usage.cost_micros)
    costs.budget_percent = percent_of(budget, costs.usage.cost_micros)
    return costs


def _summed(rows: Sequence[Mapping[Any, Any]], *names: str) -> dict[tuple[str, ...], Counter[str]]:
    """Return the sums of rows by the values of these columns."""
    sums: dict[tuple[str, ...], Counter[str]] = {}
    counted = ("answers", "unpriced", "input_tokens", "output_tokens", "audio_us", "cost_micros")
    for row in rows:
        sums.setdefault(tuple(row[name] for name in names), Counter()).update(
            {name: row[name] for name in counted}
        )
    return sums
