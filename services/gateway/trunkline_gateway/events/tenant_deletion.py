"""Deleting tenants: the gateway has every service remove what is theirs, and removes its own.

Tombstones come from the tenant service and are kept here too: each side tells the other, so that a store that was
restored from a backup learns again what was deleted. Each tombstone is gone through at every start and once a day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import sqlalchemy as sa
from trunkline.ai.v1 import admin_service_pb2_grpc as ai_grpc
from trunkline.audio.v1 import admin_service_pb2_grpc as audio_grpc
from trunkline.common.v1 import purge_pb2
from trunkline.tenant.v1 import tenant_service_pb2, tenant_service_pb2_grpc
from trunkline_runtime.errors import TrunklineError, from_rpc_error
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_runtime.process.periodic import set_aside
from trunkline_runtime.rpc.channels import Channels, unconfined
from trunkline_store import Database
from trunkline_store.records.deletion import delete_all
from trunkline_store.records.tombstones import bury

from trunkline_gateway.events.deletion import EVENTS_A_STEP, delete_events
from trunkline_gateway.events.retention import delete_eventless
from trunkline_gateway.schema import (
    deleted_tenants,
    event_receipts,
    eventless_receipts,
    events,
    jobs,
    kept_bytes,
    metadata,
    receipts,
    rejections,
    replays,
    undecided_receipts,
)

log = get_logger(__name__)

PURGED = counter(
    "trunkline_tenants_purged_total", "Times that a deleted tenant was gone through.", ["outcome"]
)
LEFT = gauge(
    "trunkline_tenants_to_purge", "Deleted tenants whose data is not known to be removed everywhere."
)

_CALL_SECONDS = 30.0
_AGAIN_SECONDS = 86_400.0
_UNDECIDED_A_STEP = 200


class Deletions:
    """The loop's one step, repeated for ever: learn tombstones, and remove what is left of those tenants."""

    def __init__(
        self,
        db: Database,
        channels: Channels,
        *,
        tenant_address: str,
        audio_address: str,
        ai_address: str,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """Nothing is connected before the first step."""
        self._db = db
        self._tenants = tenant_service_pb2_grpc.TenantServiceStub(channels.get(tenant_address))
        # The tenant service last: while anything is left elsewhere, its tombstone says so.
        self._purges: list[tuple[str, Any]] = [
            ("audio", audio_grpc.AdminServiceStub(channels.get(audio_address)).PurgeTenant),
            ("ai", ai_grpc.AdminServiceStub(channels.get(ai_address)).PurgeTenant),
            ("tenant", self._tenants.PurgeTenant),
        ]
        self._monotonic = monotonic
        self._gone_through: dict[str, float] = {}

    async def step(self) -> None:
        """Do what is to be done now. What a service did not answer is asked again by the next step."""
        with unconfined():
            try:
                await self._learn()
            except TrunklineError as error:
                log.warning("tombstones_not_read", reason=error.reason)
            query = sa.select(deleted_tenants.c.tenant_id).order_by(deleted_tenants.c.tenant_id)
            known = await self._db.read(lambda conn: conn.execute(query).scalars().all())
            now = self._monotonic()
            due = [t for t in known if self._gone_through.get(t, -_AGAIN_SECONDS) <= now - _AGAIN_SECONDS]
            LEFT.set(len(due))
            for tenant in due:
                with set_aside("deletions", tenant=tenant):
                    if await self._purge(tenant):
                        self._gone_through[tenant] = now
                        LEFT.dec()

    async def _learn(self) -> None:
        token = ""
        while True:
            request = tenant_service_pb2.ListTombstonesRequest(page_size=500, page_token=token)
            answer = await _asked(self._tenants.ListTombstones, request)
            for told in answer.tombstones:
                with set_aside("tombstones", tenant=told.tenant_id):
                    await self._bury(told.tenant_id, told.delete_time.ToDatetime(UTC))
            token = answer.next_page_token
            if not token:
                return

    async def _bury(self, tenant: str, at: datetime) -> None:
        if await self._db.write(lambda conn: bury(conn, deleted_tenants, tenant, at)):
            self._gone_through.pop(tenant, None)
            log.info("tenant_deleted", tenant=tenant)

    async def _purge(self, tenant: str) -> bool:
        """Remove everything of a tenant everywhere; False when a service could not be asked."""
        removed = {"gateway": await purge_here(self._db, tenant)}
        request = purge_pb2.PurgeTenantRequest(name=f"tenants/{tenant}")
        for service, method in self._purges:
            removed[service] = 0
            try:
                while True:
                    answer = await _asked(method, request)
                    removed[service] += answer.removed_count
                    if not answer.more:
                        break
            except TrunklineError as error:
                PURGED.labels("failed").inc()
                log.warning("tenant_not_purged", tenant=tenant, service=service, reason=error.reason)
                return False
        try:
            await _asked(
                self._tenants.ConfirmPurge, tenant_service_pb2.ConfirmPurgeRequest(name=request.name)
            )
        except TrunklineError as error:
            log.warning("purge_not_confirmed", tenant=tenant, reason=error.reason)
            return False
        PURGED.labels("done").inc()
        log.info("tenant_purged", tenant=tenant, removed=removed)
        return True


async def _asked(method: Any, request: Any) -> Any:
    try:
        return await method(request, timeout=_CALL_SECONDS)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


async def purge_here(db: Database, tenant: str) -> int:
    """Remove what the gateway keeps of a tenant whose tombstone is there; how many rows went, roughly.

    Receipts that admission has not looked at yet are dropped by it.
    """
    mine = sa.select(events.c.event_id).where(events.c.tenant_id == tenant).limit(EVENTS_A_STEP)
    removed = 0
    while found := await db.read(lambda conn: conn.execute(mine).scalars().all()):
        step = await db.write(
            lambda conn: delete_events(conn, tenant, found, ended_only=False), background=True
        )
        removed += step.events + step.receipts
    removed += await delete_eventless(db, eventless_receipts.c.tenant_id == tenant)
    while gone := await db.write(lambda conn: _delete_undecided(conn, tenant), background=True):
        removed += gone
    for table in (rejections, replays, event_receipts, jobs, kept_bytes):
        removed += await delete_all(db, table, table.c.tenant_id == tenant)
    turns = metadata.tables["jobs_turns"]  # losing one changes who is first, nothing more
    return removed + await delete_all(db, turns, turns.c.tenant_id == tenant)


def _delete_undecided(conn: sa.Connection, tenant: str) -> int:
    """Delete some receipts that wait for a source that is gone; how many."""
    joined = undecided_receipts.join(receipts, receipts.c.seq == undecided_receipts.c.seq)
    waiting = sa.select(receipts.c.seq).select_from(joined).where(receipts.c.tenant_id == tenant)
    waiting = waiting.limit(_UNDECIDED_A_STEP)
    found = conn.execute(waiting).scalars().all()
    if found:
        conn.execute(undecided_receipts.delete().where(undecided_receipts.c.seq.in_(found)))
        conn.execute(receipts.delete().where(receipts.c.seq.in_(found)))
    return len(found)
