"""Deleting tenants: the gateway has every service remove what is theirs, and removes its own.

Tombstones come from the tenant service and are kept here too: each side tells the other, so that a store that was
restored from a backup learns again what was deleted. Each tombstone has a task, which is no tenant's, since it outlives
the tenant's own: it goes through what is left of the tenant at every start and once a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import sqlalchemy as sa
from trunkline.ai.v1 import admin_service_pb2_grpc as ai_grpc
from trunkline.audio.v1 import admin_service_pb2_grpc as audio_grpc
from trunkline.common.v1 import purge_pb2
from trunkline.tenant.v1 import tenant_service_pb2, tenant_service_pb2_grpc
from trunkline_jobs import QueueClass, Tasks, turns_of
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
    receipts,
    rejections,
    replays,
    tasks,
    undecided_receipts,
)

log = get_logger(__name__)

PURGED = counter(
    "trunkline_tenants_purged_total", "Times that a deleted tenant was gone through.", ["outcome"]
)
LEFT = gauge(
    "trunkline_tenants_to_purge", "Deleted tenants whose data is not known to be removed everywhere."
)

PURGE = "purge_tenant"
"""The kind of task that removes what is left of a tenant."""
_CALL_SECONDS = 30.0
_AGAIN_SECONDS = 86_400.0
_UNDECIDED_A_STEP = 200
_TASKS_A_STEP = 200


class Deletions:
    """Learns tombstones, and removes what is left of those tenants."""

    def __init__(
        self,
        db: Database,
        tasks: Tasks,
        channels: Channels,
        *,
        tenant_address: str,
        audio_address: str,
        ai_address: str,
    ):
        """Nothing is connected before something is asked."""
        self._db = db
        self._tasks = tasks
        self._tenants = tenant_service_pb2_grpc.TenantServiceStub(channels.get(tenant_address))
        # The tenant service last: while anything is left elsewhere, its tombstone says so.
        self._purges: list[tuple[str, Any]] = [
            ("audio", audio_grpc.AdminServiceStub(channels.get(audio_address)).PurgeTenant),
            ("ai", ai_grpc.AdminServiceStub(channels.get(ai_address)).PurgeTenant),
            ("tenant", self._tenants.PurgeTenant),
        ]
        self._began = False

    async def learn(self) -> None:
        """Learn what was deleted, and have it removed. Called again and again: a service may not have answered."""
        with unconfined():
            try:
                await self._learn()
            except TrunklineError as error:
                log.warning("tombstones_not_read", reason=error.reason)
        if not self._began:
            query = sa.select(deleted_tenants.c.tenant_id)
            known = await self._db.read(lambda conn: conn.execute(query).scalars().all())
            for start in range(0, len(known), _TASKS_A_STEP):
                some = known[start : start + _TASKS_A_STEP]
                await self._db.write(lambda conn: self._have_purged(conn, some))  # noqa: B023 - awaited right here
            self._began = True
        self._tasks.soon()
        LEFT.set(await self._db.read(lambda conn: self._tasks.unsettled(conn, PURGE)))

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
        def work(conn: sa.Connection) -> bool:
            new = bury(conn, deleted_tenants, tenant, at)
            if new:
                self._have_purged(conn, [tenant])
            return new

        if await self._db.write(work):
            log.info("tenant_deleted", tenant=tenant)

    def _have_purged(self, conn: sa.Connection, tenants: Sequence[str]) -> None:
        self._tasks.put(conn, PURGE, *tenants, queue_class=QueueClass.BACKGROUND, hurry=True)

    async def purge(self, house: str, tenant: str) -> float:
        """Remove everything of a tenant everywhere, and do so again after a day.

        Raises TrunklineError when a service could not be asked.
        """
        with unconfined():
            await self._purge(tenant)
        return _AGAIN_SECONDS

    async def _purge(self, tenant: str) -> None:
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
                raise
        confirmed = tenant_service_pb2.ConfirmPurgeRequest(name=request.name)
        await _asked(self._tenants.ConfirmPurge, confirmed)
        PURGED.labels("done").inc()
        log.info("tenant_purged", tenant=tenant, removed=removed)


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
    turns = turns_of(jobs), turns_of(tasks)  # losing one changes who is first, nothing more
    for table in (rejections, tasks, replays, event_receipts, jobs, kept_bytes, *turns):
        removed += await delete_all(db, table, table.c.tenant_id == tenant)
    return removed


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
