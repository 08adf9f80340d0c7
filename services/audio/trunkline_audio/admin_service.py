"""AdminService over gRPC: removes what is kept of a deleted tenant."""

from __future__ import annotations

from typing import Any

from trunkline.audio.v1 import admin_service_pb2, admin_service_pb2_grpc
from trunkline.common.v1 import purge_pb2
from trunkline_runtime.api import resources
from trunkline_store.database import Database
from trunkline_store.records.deletion import delete_all
from trunkline_store.records.tombstones import bury

from trunkline_audio.media.blobs import Blobs
from trunkline_audio.names import TENANT
from trunkline_audio.recordings.rows import Recordings, blob_folder
from trunkline_audio.schema import deleted_tenants, jobs, operations, recordings, refusals, tasks, transcripts

_A_CALL = 1_000


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Removes whole tenants, and counts them."""

    def __init__(self, db: Database, blobs: Blobs) -> None:
        self._db = db
        self._blobs = blobs

    async def PurgeTenant(
        self, request: purge_pb2.PurgeTenantRequest, context: Any
    ) -> purge_pb2.PurgeTenantResponse:
        """First the tombstone, so that nothing new comes; then bytes, which the rows still name; then rows."""
        tenant = resources.parse(TENANT, request.name)["tenant"]
        now = self._db.clock.now()
        await self._db.write(lambda conn: bury(conn, deleted_tenants, tenant, now))
        removed = await self._blobs.delete_folder(blob_folder(tenant), _A_CALL)
        for table in (tasks, jobs, operations, refusals, transcripts, recordings):
            if removed < _A_CALL:
                removed += await delete_all(
                    self._db, table, table.c.tenant_id == tenant, most=_A_CALL - removed
                )
        return purge_pb2.PurgeTenantResponse(removed_count=removed, more=removed >= _A_CALL)

    async def CountTenant(
        self, request: admin_service_pb2.CountTenantRequest, context: Any
    ) -> admin_service_pb2.CountTenantResponse:
        """Count a tenant's bytes."""
        tenant = resources.parse(TENANT, request.name)["tenant"]
        used = await Recordings(self._db).bytes_of(tenant)
        return admin_service_pb2.CountTenantResponse(recordings_bytes=used)
