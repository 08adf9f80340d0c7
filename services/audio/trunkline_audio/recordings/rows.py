"""Recordings as rows: kept once, read, listed, deleted with their transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.audio.v1 import recording_pb2
from trunkline.common.v1 import audio_pb2
from trunkline_runtime.api.columns import Filter, conditions
from trunkline_runtime.api.filters import FieldType
from trunkline_runtime.errors import NotFound
from trunkline_store.database import Database
from trunkline_store.hot import Hot
from trunkline_store.inserts import insert_if_absent
from trunkline_store.records.keyset import Page, Place
from trunkline_store.records.tombstones import buried

from trunkline_audio import tombstones
from trunkline_audio.names import duration, recording_name
from trunkline_audio.schema import checkpoints, deleted_tenants, recordings, transcripts

HEADERLESS_NAMES = {
    audio_pb2.HEADERLESS_FORMAT_UNSPECIFIED: "",
    audio_pb2.HEADERLESS_FORMAT_MULAW: "mulaw",
    audio_pb2.HEADERLESS_FORMAT_ALAW: "alaw",
    audio_pb2.HEADERLESS_FORMAT_GSM: "gsm",
}
"""As the decoder has them, and as the `format` of a recording that came so begins."""


@dataclass(frozen=True)
class Recording:
    """What is known of a recording; its bytes lie among the blobs under `blob_key`."""

    tenant_id: str
    recording_id: str
    call: str
    sha256: str
    size_bytes: int
    format: str
    duration_us: int
    channels: int
    sample_rate_hertz: int
    created_at: datetime
    expire_at: datetime | None = None

    @property
    def blob_key(self) -> str:
        """Where its bytes are."""
        return blob_key(self.tenant_id, self.recording_id)

    @property
    def headerless(self) -> str:
        """What its bytes are that have no header; empty when they have one."""
        container = self.format.partition("/")[0]
        return container if container in HEADERLESS_NAMES.values() else ""

    def to_proto(self) -> recording_pb2.Recording:
        """The resource."""
        message = recording_pb2.Recording(
            name=recording_name(self.tenant_id, self.recording_id),
            call=self.call,
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            format=self.format,
            duration=duration(self.duration_us),
            channels=self.channels,
            sample_rate_hertz=self.sample_rate_hertz,
        )
        message.create_time.FromDatetime(self.created_at)
        if self.expire_at is not None:
            message.expire_time.FromDatetime(self.expire_at)
        return message


def blob_folder(tenant: str) -> str:
    """Where the bytes of all of a tenant's recordings are."""
    return f"t.{tenant}"


def blob_key(tenant: str, recording: str) -> str:
    """Where the bytes of a recording are; ids may begin with a dash, keys may not."""
    return f"{blob_folder(tenant)}/r.{recording}"


_ONE = Hot(
    sa.select(recordings).where(
        recordings.c.tenant_id == sa.bindparam("tenant"),
        recordings.c.recording_id == sa.bindparam("recording"),
    )
)


def recording_of(conn: Connection, tenant: str, recording: str) -> Recording | None:
    """Read one recording; None when it is not there."""
    row = _ONE.first(conn, {"tenant": tenant, "recording": recording})
    return None if row is None else Recording(**row)


def refuse_deleted(conn: Connection, tenant: str, recording: str) -> None:
    """Raise FailedPrecondition for a recording that was deleted on request."""
    tombstones.refuse(conn, tenant, recording_name(tenant, recording), "RECORDING_DELETED")


def _filters(tenant: str) -> dict[str, Filter]:
    """What lists filter by; the call is kept by its whole name."""
    table = recordings.c
    return {
        "call": Filter(
            FieldType.STRING,
            table.call,
            lambda value: f"tenants/{tenant}/calls/{str(value).rpartition('/')[2]}",
        ),
        "format": Filter(FieldType.STRING, table.format),
        "create_time": Filter(FieldType.TIMESTAMP, table.created_at),
    }


class Recordings:
    """The recordings of all tenants; every call names one tenant.

    `list_staleness` is how old a page may be where the engine can serve older snapshots; None is the latest.
    """

    def __init__(self, db: Database, list_staleness: timedelta | None = None) -> None:
        self._db = db
        self._list_staleness = list_staleness

    async def get(self, tenant: str, recording: str) -> Recording | None:
        """One recording, None when it is not there."""
        return await self._db.peek(lambda conn: recording_of(conn, tenant, recording))

    async def add(self, recording: Recording) -> Recording:
        """Keeps a recording unless its id is there; the one that is kept.

        Raises NotFound for a deleted tenant, and FailedPrecondition for a recording that was deleted on request.
        """
        values = {**vars(recording)}
        key = ["tenant_id", "recording_id"]

        def work(conn: Connection) -> bool:
            if buried(conn, deleted_tenants, [recording.tenant_id]):
                raise NotFound(f"tenants/{recording.tenant_id}")
            refuse_deleted(conn, recording.tenant_id, recording.recording_id)
            return insert_if_absent(conn, recordings, values, key)

        if await self._db.write(work):
            return recording
        return await self.get(recording.tenant_id, recording.recording_id) or recording

    async def bytes_of(self, tenant: str) -> int:
        """The bytes of all recordings of a tenant: a walk over its rows."""
        total = sa.select(sa.func.coalesce(sa.func.sum(recordings.c.size_bytes), 0))
        total = total.where(recordings.c.tenant_id == tenant)
        return int(await self._db.scan(lambda conn: conn.execute(total).scalar_one()))

    async def page(self, tenant: str, place: Place, filter_: str = "") -> tuple[list[Recording], str]:
        """Recordings of a tenant, the latest first, and the next page's token. Raises InvalidArgument("filter")."""
        table = recordings.c
        query = sa.select(recordings).where(table.tenant_id == tenant, *conditions(filter_, _filters(tenant)))
        page = Page(query, [table.created_at, table.recording_id], place, descending=True)
        read = page.made(lambda row: Recording(**row._mapping))
        return await self._db.scan(read, staleness=self._list_staleness)

    async def check(self, tenant: str, recording: str) -> None:
        """Raise FailedPrecondition for a recording that was deleted on request."""
        await self._db.peek(lambda conn: refuse_deleted(conn, tenant, recording))

    async def delete(self, tenant: str, recording: str) -> bool:
        """Deletes a recording's row with its transcripts, and leaves its tombstone; False when it was not there."""
        now = self._db.clock.now()

        def work(conn: Connection) -> bool:
            if recording_of(conn, tenant, recording) is not None:
                tombstones.leave(conn, tenant, recording_name(tenant, recording), now)
            of_it = (transcripts.c.tenant_id == tenant, transcripts.c.recording_id == recording)
            conn.execute(sa.delete(transcripts).where(*of_it))
            forget_checkpoints(conn, tenant, recording)
            itself = (recordings.c.tenant_id == tenant, recordings.c.recording_id == recording)
            return conn.execute(sa.delete(recordings).where(*itself)).rowcount > 0

        return await self._db.write(work)


def forget_checkpoints(conn: Connection, tenant: str, recording: str, transcript: str = "") -> None:
    """Delete what is finished of a recording's transcripts (or of one) that are being made, or were just made."""
    of_it = [checkpoints.c.tenant_id == tenant, checkpoints.c.recording_id == recording]
    if transcript:
        of_it.append(checkpoints.c.transcript_id == transcript)
    conn.execute(sa.delete(checkpoints).where(*of_it))
