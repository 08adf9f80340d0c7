"""What is done now and then about costs: the gauge of the dearest tenants, and charges that are known long enough."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_runtime.observe import metrics
from trunkline_runtime.process.periodic import set_aside
from trunkline_store import Database
from trunkline_store.records.deletion import delete_all, owners
from trunkline_store.records.expiry import overdue

from trunkline_tenant.costs.rows import month_of
from trunkline_tenant.schema import charges, month_costs

SECONDS = 60.0
MOST_TENANTS = 10
"""Tenants that the gauge shows by name."""
REST = "rest"
"""Stands for all other tenants; a tenant is shown by its name, `tenants/{tenant}`."""

_cost = metrics.gauge(
    "trunkline_tenant_month_cost_micros",
    "What engines have cost this month, in millionths of a US dollar: the ten dearest tenants, and the rest",
    ["tenant"],
)


class Upkeep:
    """Keeps the gauge, and the table of charges."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._shown: set[str] = set()

    async def run(self) -> None:
        """Do it once."""
        month = month_of(self._db.clock.now())
        shown = await self._db.scan(lambda conn: _dearest(conn, month))
        for tenant in self._shown - shown.keys():
            _cost.remove(tenant)
        for tenant, micros in shown.items():
            _cost.labels(tenant).set(micros)
        self._shown = set(shown)
        if not self._db.features.deletes_expired:
            await self._forget()

    async def _forget(self) -> None:
        now = self._db.clock.now()
        async for tenant in owners(self._db, charges):
            with set_aside("charges", tenant=tenant):
                await delete_all(self._db, charges, overdue(charges, tenant, now))


def _dearest(conn: Connection, month: str) -> dict[str, int]:
    c = month_costs.c
    of_month = sa.select(c.tenant_id, c.cost_micros).where(c.month == month)
    first = conn.execute(of_month.order_by(c.cost_micros.desc(), c.tenant_id).limit(MOST_TENANTS)).all()
    total = conn.execute(sa.select(sa.func.sum(c.cost_micros)).where(c.month == month)).scalar() or 0
    shown = {f"tenants/{row.tenant_id}": int(row.cost_micros) for row in first}
    return {**shown, REST: int(total) - sum(shown.values())}
