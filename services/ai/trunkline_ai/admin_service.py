"""AdminService over gRPC: removes what is kept of a deleted tenant, and of erased calls."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa
from trunkline.ai.v1 import admin_service_pb2_grpc
from trunkline.common.v1 import purge_pb2
from trunkline_runtime.api import resources
from trunkline_store.database import Database
from trunkline_store.records.deletion import delete_all
from trunkline_store.records.tombstones import bury

from trunkline_ai.cache.tiers import AnswerCache
from trunkline_ai.names import TENANT
from trunkline_ai.schema import analyses, analysis_marks, charges, deleted_tenants

_A_CALL = 1_000


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Removes whole tenants and erased calls."""

    def __init__(
        self, db: Database, cache: AnswerCache, stop: Callable[[str, Collection[str] | None], None]
    ) -> None:
        """`stop` ends the analyses of a tenant's calls that are being made, or of all of them."""
        self._cache = cache
        self._db = db
        self._stop = stop

    async def PurgeTenant(
        self, request: purge_pb2.PurgeTenantRequest, context: Any
    ) -> purge_pb2.PurgeTenantResponse:
        """First the tombstone, so that nothing new comes; then what is made now, the models' answers, and the rows."""
        tenant = resources.parse(TENANT, request.name)["tenant"]
        now = self._db.clock.now()
        await self._db.write(lambda conn: bury(conn, deleted_tenants, tenant, now))
        self._stop(tenant, None)
        await delete_all(self._db, analysis_marks, analysis_marks.c.tenant_id == tenant)
        await delete_all(self._db, charges, charges.c.tenant_id == tenant)
        await self._cache.forget(tenant)
        removed = await delete_all(self._db, analyses, analyses.c.tenant_id == tenant, most=_A_CALL)
        return purge_pb2.PurgeTenantResponse(removed_count=removed, more=removed >= _A_CALL)

    async def PurgeCalls(
        self, request: purge_pb2.PurgeCallsRequest, context: Any
    ) -> purge_pb2.PurgeCallsResponse:
        """Every analysis of the calls, and the models' answers that served them."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        calls = resources.ids_under(request.parent, request.calls, field="calls")
        self._stop(tenant, calls)
        await self._cache.forget(tenant, calls)
        theirs = (analyses.c.tenant_id == tenant) & analyses.c.call_id.in_(calls)
        marks = analysis_marks.c
        of_calls = marks.analysis_id.in_(sa.select(analyses.c.analysis_id).where(theirs))
        await delete_all(self._db, analysis_marks, (marks.tenant_id == tenant) & of_calls)
        removed = await delete_all(self._db, analyses, theirs, most=_A_CALL)
        return purge_pb2.PurgeCallsResponse(removed_count=removed, more=removed >= _A_CALL)
