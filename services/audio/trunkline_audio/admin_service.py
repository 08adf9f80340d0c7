"""AdminService over gRPC: removes what is kept of a deleted tenant, and of erased calls."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from trunkline.audio.v1 import admin_service_pb2, admin_service_pb2_grpc
from trunkline.common.v1 import purge_pb2
from trunkline_runtime.api import resources
from trunkline_store.database import Database
from trunkline_store.records.deletion import delete_all
from trunkline_store.records.tombstones import bury

from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.names import TENANT
from trunkline_audio.recordings.rows import Recordings, blob_folder
from trunkline_audio.recordings.uploads.rows import Uploads
from trunkline_audio.retention import delete_recordings
from trunkline_audio.schema import (
    charges,
    checkpoints,
    deleted_resources,
    deleted_tenants,
    jobs,
    operations,
    recordings,
    refusals,
    result_claims,
    tasks,
    transcripts,
)
from trunkline_audio.schema import uploads as uploads_table

_A_CALL = 1_000
_TABLES = (
    tasks, jobs, operations, checkpoints, uploads_table, result_claims, refusals, transcripts, recordings,
    deleted_resources, charges,
)  # fmt: skip


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Removes whole tenants and erased calls, and counts tenants."""

    def __init__(self, db: Database, blobs: Blobs, uploads: Uploads) -> None:
        self._db = db
        self._blobs = blobs
        self._uploads = uploads

    async def PurgeTenant(
        self, request: purge_pb2.PurgeTenantRequest, context: Any
    ) -> purge_pb2.PurgeTenantResponse:
        """First the tombstone, so that nothing new comes; then bytes, which the rows still name; then rows."""
        tenant = resources.parse(TENANT, request.name)["tenant"]
        now = self._db.clock.now()
        await self._db.write(lambda conn: bury(conn, deleted_tenants, tenant, now))
        removed = await self._blobs.delete_folder(blob_folder(tenant), _A_CALL)
        for table in _TABLES:
            if removed < _A_CALL:
                removed += await delete_all(
                    self._db, table, table.c.tenant_id == tenant, most=_A_CALL - removed
                )
        return purge_pb2.PurgeTenantResponse(removed_count=removed, more=removed >= _A_CALL)

    async def PurgeCalls(
        self, request: purge_pb2.PurgeCallsRequest, context: Any
    ) -> purge_pb2.PurgeCallsResponse:
        """First uploads, which would become recordings; then transcripts, found by theirs; then recordings."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        said = resources.ids_under(request.parent, request.transcripts, field="transcripts")
        resources.ids_under(request.parent, request.calls, field="calls")
        uploaded = await self._uploads.remove_of(tenant, request.calls, self._blobs)
        of_calls = (recordings.c.tenant_id == tenant) & recordings.c.call.in_(request.calls)
        named = (transcripts.c.tenant_id == tenant) & transcripts.c.transcript_id.in_(said)
        found = sa.select(recordings.c.recording_id).where(of_calls).limit(_A_CALL)
        also = sa.select(transcripts.c.recording_id).where(named)
        of = {
            *await self._db.read(lambda conn: conn.execute(found).scalars().all()),
            *await self._db.read(lambda conn: conn.execute(also).scalars().all()),
        }
        theirs = (transcripts.c.tenant_id == tenant) & transcripts.c.recording_id.in_(sorted(of))
        removed = uploaded
        if of:
            made = (checkpoints.c.tenant_id == tenant) & checkpoints.c.recording_id.in_(sorted(of))
            removed += await delete_all(self._db, transcripts, theirs, most=_A_CALL)
            await delete_all(self._db, checkpoints, made)
        if removed < _A_CALL:
            removed += await delete_recordings(self._db, self._blobs, of_calls, most=_A_CALL - removed)
        return purge_pb2.PurgeCallsResponse(removed_count=removed, more=removed >= _A_CALL)

    async def CountTenant(
        self, request: admin_service_pb2.CountTenantRequest, context: Any
    ) -> admin_service_pb2.CountTenantResponse:
        """Count a tenant's bytes."""
        tenant = resources.parse(TENANT, request.name)["tenant"]
        used = await Recordings(self._db).bytes_of(tenant)
        return admin_service_pb2.CountTenantResponse(recordings_bytes=used)
