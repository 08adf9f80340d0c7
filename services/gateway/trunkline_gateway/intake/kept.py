"""How many bytes of receipts are kept of each tenant: exact in the store, a few seconds old in memory.

The store's numbers are written in the transactions that admit and delete receipts. A webhook is held to its tenant's
quota by what memory knows: the store's number of a moment ago, and what this process has taken since.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping

import sqlalchemy as sa
from trunkline.tenant.v1 import tenant_pb2
from trunkline_runtime.observe.metrics import gauge
from trunkline_store import Database
from trunkline_store.declare import by_index
from trunkline_store.hot import Hot

from trunkline_gateway.hooks.unverified import ROW_BYTES
from trunkline_gateway.providers.base import Source
from trunkline_gateway.schema import kept_bytes, receipts, rejections, replays

OVER = gauge("trunkline_tenants_over_quota", "Tenants whose receipts are more than their plan allows.")

REFRESH_SECONDS = 5.0

# What a stored receipt weighs, as `weight_of` has it.
WEIGHT = (
    sa.func.length(receipts.c.body)
    + sa.func.length(receipts.c.headers)
    + sa.func.length(receipts.c.url)
    + ROW_BYTES
)

_PARTS = 16
_PART = uuid.uuid4().int % _PARTS  # of this process
_MINE = (kept_bytes.c.tenant_id == sa.bindparam("tenant"), kept_bytes.c.part == sa.bindparam("part_"))
_ADD = Hot(kept_bytes.update().where(*_MINE).values(bytes=kept_bytes.c.bytes + sa.bindparam("more")))


def add_kept(conn: sa.Connection, changes: Mapping[str, int]) -> None:
    """Add bytes to tenants' counts, or take them away, in the open transaction that keeps or deletes them."""
    for tenant, more in changes.items():
        if more and _ADD.run(conn, {"tenant": tenant, "part_": _PART, "more": more}) != 1:
            conn.execute(kept_bytes.insert(), {"tenant_id": tenant, "part": _PART, "bytes": more})


def running_replays(conn: sa.Connection, tenant: str) -> int:
    """Return how many bulk replays of a tenant have not ended."""
    mine = (replays.c.tenant_id == tenant) & replays.c.finished_at.is_(None)
    return int(conn.execute(sa.select(sa.func.count()).select_from(replays).where(mine)).scalar_one())


def rejected_bytes(conn: sa.Connection, tenant: str) -> int:
    """Return how many bytes of rejected requests are kept of a tenant: read from an index."""
    total = sa.select(sa.func.coalesce(sa.func.sum(rejections.c.stored_bytes), 0))
    total = by_index(total, rejections, "rejections_by_source")
    return int(conn.execute(total.where(rejections.c.tenant_id == tenant)).scalar_one())


def no_quotas(tenant: str) -> tenant_pb2.Quotas:
    """Return quotas without a bound, for whoever knows none."""
    return tenant_pb2.Quotas()


class Kept:
    """What is known in memory; `refresh` is to be called every few seconds."""

    def __init__(self, db: Database, quotas_of: Callable[[str], tenant_pb2.Quotas] = no_quotas):
        """Nothing is known before the first refresh: then nothing is refused. `quotas_of` tells a tenant's plan."""
        self._db = db
        self._quotas_of = quotas_of
        self._stored: dict[str, int] = {}
        self._taken: dict[str, int] = defaultdict(int)
        self._taken_before: dict[str, int] = {}

    def take(self, tenant_id: str, size: int) -> None:
        """Count a receipt that was taken. Called once a webhook."""
        self._taken[tenant_id] += size + ROW_BYTES

    def used(self, tenant_id: str) -> int:
        """Return the bytes of a tenant; what was taken within the last seconds may count twice."""
        stored = self._stored.get(tenant_id, 0)
        return stored + self._taken.get(tenant_id, 0) + self._taken_before.get(tenant_id, 0)

    def is_over(self, source: Source, times: int = 1) -> bool:
        """Say whether a source's tenant has so many times its quota."""
        most = source.receipts_quota
        return most > 0 and self.used(source.tenant_id) >= most * times

    async def refresh(self) -> None:
        """Read the store's numbers. What was taken during the last interval may not be among them yet."""
        # Of every tenant: one row each and part.
        query = sa.select(kept_bytes.c.tenant_id, sa.func.sum(kept_bytes.c.bytes)).group_by(
            kept_bytes.c.tenant_id
        )
        taken = self._taken
        self._taken = defaultdict(int)
        try:
            rows = await self._db.scan(lambda conn: conn.execute(query).all())
        except BaseException:
            for tenant, size in taken.items():
                self._taken[tenant] += size
            raise
        self._taken_before = taken
        self._stored = {tenant: max(0, int(size)) for tenant, size in rows}
        OVER.set(sum(map(self._has_its_quota, self._stored)))

    def _has_its_quota(self, tenant_id: str) -> bool:
        most = self._quotas_of(tenant_id).receipts_bytes
        return 0 < most <= self._stored[tenant_id]
