"""Uploads as rows: begun, moved on piece by piece, turned into a recording, swept."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_runtime.errors import Aborted, AlreadyExists, NotFound, ResourceExhausted
from trunkline_runtime.process.periodic import set_aside
from trunkline_store.database import Database
from trunkline_store.inserts import insert_if_absent
from trunkline_store.records.deletion import owners
from trunkline_store.records.expiry import lives, overdue
from trunkline_store.records.tombstones import buried

from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.names import recording_name, upload_name
from trunkline_audio.recordings.rows import Recording, blob_folder, blob_key, recording_of, refuse_deleted
from trunkline_audio.schema import deleted_tenants, recordings, uploads

WRITER_SECONDS = 90.0
"""How long a writer's word holds: one that says nothing for so long gives way."""
_A_STEP = 20
_SAME_MOST = 10
_NAMED = 5
_MOST_PIECES = 10_000
_MOST_LEFT = 200


@dataclass(frozen=True)
class Upload:
    """A recording on its way; `upload_id` is the recording's id to be."""

    tenant_id: str
    upload_id: str
    call: str
    headerless: str
    sha256: str
    """As stated; empty when it was not."""
    size_bytes: int
    """0 while it is not known."""
    recording_expire_at: datetime | None
    created_at: datetime
    expire_at: datetime
    received_bytes: int = 0
    pieces: list[list[Any]] = field(default_factory=list)
    """The offset and the name of each piece that is kept, in order."""
    writer: str = ""
    writer_until: datetime | None = None
    recording_id: str = ""
    """What it became; empty before."""
    existing: bool = False
    failure: list[str] | None = None
    """The field, the message and the reason why it can never become a recording."""

    @property
    def folder(self) -> str:
        """Where its pieces are."""
        return f"{blob_folder(self.tenant_id)}/u.{self.upload_id}"

    @property
    def blob_key(self) -> str:
        """Where the whole bytes are to be."""
        return blob_key(self.tenant_id, self.upload_id)

    @property
    def is_whole(self) -> bool:
        """Whether every byte is there."""
        return 0 < self.size_bytes == self.received_bytes


def same_bytes(
    conn: Connection, tenant: str, sha256: str, headerless: str, now: datetime
) -> Recording | None:
    """Return a tenant's audio with these bytes, read the same way, whose time has not come; None without any."""
    table = recordings.c
    query = sa.select(recordings).where(
        table.tenant_id == tenant, table.sha256 == sha256, table.channels > 0, lives(table.expire_at, now)
    )
    for row in conn.execute(query.limit(_SAME_MOST)):
        found = Recording(**row._mapping)
        if found.headerless in ("", headerless):
            return found
    return None


class Uploads:
    """The uploads of all tenants; every call but the sweep names one tenant."""

    def __init__(self, db: Database, most_open: int) -> None:
        """`most_open` is how many incomplete ones a tenant may have."""
        self._db = db
        self._most_open = most_open

    async def get(self, tenant: str, upload: str) -> Upload:
        """One upload. Raises NotFound, also when its time has come."""
        return await self._db.read(lambda conn: self._load(conn, tenant, upload))

    async def same(self, tenant: str, sha256: str, headerless: str) -> Recording | None:
        """A recording with these bytes; see `same_bytes`."""
        now = self._db.clock.now()
        return await self._db.read(lambda conn: same_bytes(conn, tenant, sha256, headerless, now))

    async def begin(self, made: Upload) -> None:
        """Keep a new upload. One whose writer went silent, or whose time has come, gives way.

        Raises NotFound for a deleted tenant, FailedPrecondition for the id of a recording that was deleted on request,
        AlreadyExists for a recording's id, Aborted for an upload's, and ResourceExhausted when too many are open.
        """
        now = self._db.clock.now()
        table = uploads.c

        def work(conn: Connection) -> None:
            if buried(conn, deleted_tenants, [made.tenant_id]):
                raise NotFound(f"tenants/{made.tenant_id}")
            if recording_of(conn, made.tenant_id, made.upload_id) is not None:
                raise AlreadyExists(recording_name(made.tenant_id, made.upload_id))
            refuse_deleted(conn, made.tenant_id, made.upload_id)
            there = self._find(conn, made.tenant_id, made.upload_id)
            if there is not None and (_is_running(there, now) or _is_held(there, now)):
                raise Aborted(
                    f"{upload_name(made.tenant_id, made.upload_id)} is not complete: go on with it, or delete it",
                    reason="UPLOAD_RUNNING",
                )
            conn.execute(sa.delete(uploads).where(*_of(made.tenant_id, made.upload_id)))
            running = (
                table.tenant_id == made.tenant_id,
                table.recording_id == "",
                table.failure.is_(None),
                table.expire_at > now,
            )
            if conn.execute(sa.select(sa.func.count()).where(*running)).scalar_one() >= self._most_open:
                oldest = sa.select(table.upload_id).where(*running).order_by(table.created_at).limit(_NAMED)
                named = ", ".join(upload_name(made.tenant_id, one) for one in conn.execute(oldest).scalars())
                raise ResourceExhausted(
                    f"{self._most_open} uploads are not complete; complete or delete some; the oldest are {named}",
                    reason="UPLOADS_OPEN",
                    subject=f"tenants/{made.tenant_id}",
                    retry_after=60.0,
                )
            insert_if_absent(conn, uploads, vars(made), ["tenant_id", "upload_id"])

        await self._db.write(work)

    async def append(self, upload: Upload, piece: str, size: int, total: int, expire_at: datetime) -> Upload:
        """Note a piece that was kept behind the others, and the size of all if it is known (0: not).

        Raises Aborted when another one was noted meanwhile, NotFound when the upload is gone.
        """

        def work(conn: Connection) -> Upload:
            there = self._load(conn, upload.tenant_id, upload.upload_id)
            if there.received_bytes != upload.received_bytes or there.recording_id or there.failure:
                raise Aborted(
                    "another stream of the same upload came first; ask how far it is", reason="UPLOAD_MOVED"
                )
            pieces = [*there.pieces, [there.received_bytes, piece]] if size else there.pieces
            if len(pieces) > _MOST_PIECES:
                raise ResourceExhausted("the upload came in too many small parts", reason="UPLOAD_PIECES")
            values = {
                "pieces": pieces,
                "received_bytes": there.received_bytes + size,
                "size_bytes": there.size_bytes or total,
                "expire_at": expire_at,
            }
            self._change(conn, there, values)
            return Upload(**{**vars(there), **values})

        return await self._db.write(work)

    async def hold(self, upload: Upload, writer: str) -> Upload:
        """Let `writer` alone write the whole bytes for WRITER_SECONDS; again to go on. Raises Aborted for another's."""
        now = self._db.clock.now()

        def work(conn: Connection) -> Upload:
            there = self._load(conn, upload.tenant_id, upload.upload_id)
            if there.writer not in ("", writer) and not _silent(there, now):
                raise Aborted("the upload is being completed; ask again in a moment", reason="UPLOAD_RUNNING")
            if not (there.recording_id or there.failure):
                self._change(conn, there, {"writer": writer, "writer_until": until(now, WRITER_SECONDS)})
            return there

        return await self._db.write(work)

    async def leaves_bytes(self, upload: Upload) -> bool:
        """Tell whether the bytes under an upload's key are its writer's to delete; if so, nobody else gets the id yet.

        They are not when another writer took over, or when they became a recording. In the order of writes: what was
        begun before is seen, also where its asker gave up. An upload that was deleted meanwhile gets its row back, so
        that its writer can delete what it wrote; `release` or `delete` ends that.
        """
        now = self._db.clock.now()

        def work(conn: Connection) -> bool:
            there = self._find(conn, upload.tenant_id, upload.upload_id)
            if there is None:  # it was cancelled, or is a recording
                if recording_of(conn, upload.tenant_id, upload.upload_id) is not None:
                    return False
                if not buried(conn, deleted_tenants, [upload.tenant_id]):
                    back = {**vars(upload), "pieces": [], "writer_until": until(now, WRITER_SECONDS)}
                    insert_if_absent(conn, uploads, back, ["tenant_id", "upload_id"])
                return True
            if there.recording_id or there.writer != upload.writer:
                return False
            self._change(conn, there, {"writer_until": until(now, WRITER_SECONDS)})
            return True

        return await self._db.write(work)

    async def names(self, upload: Upload, piece: str) -> bool:
        """Tell whether a piece is one of an upload's, in the order of writes."""

        def work(conn: Connection) -> bool:
            there = self._find(conn, upload.tenant_id, upload.upload_id)
            return there is not None and any(name == piece for _, name in there.pieces)

        return await self._db.write(work)

    async def release(self, upload: Upload) -> None:
        """Let go of what `hold` took, if it is still held: another try may succeed. One without pieces goes."""
        gone = sa.delete(uploads).where(*_itself(upload), uploads.c.writer == upload.writer)

        def work(conn: Connection) -> None:
            there = self._find(conn, upload.tenant_id, upload.upload_id)
            if there is not None and not there.pieces:
                conn.execute(gone)
            else:
                self._end_writing(conn, upload, {})

        await self._db.write(work)

    async def fail(self, upload: Upload, failure: list[str]) -> None:
        """Say that it can never become a recording, unless another writer took over."""
        values = {"failure": failure, "pieces": [], "received_bytes": 0}
        await self._db.write(lambda conn: self._end_writing(conn, upload, values))

    async def complete(
        self, upload: Upload, made: Recording, keep_until: datetime | None
    ) -> tuple[Recording, bool]:
        """Keep the recording of an upload unless its tenant has the bytes; what is kept, and whether it was there.

        The upload's row stays until `keep_until`; None: it goes. Raises NotFound for a deleted tenant, Aborted when the
        upload was cancelled or another writer took over, FailedPrecondition for a recording that was deleted on
        request, and AlreadyExists when another recording has the id by now.
        """
        now = self._db.clock.now()

        def work(conn: Connection) -> tuple[Recording, bool]:
            if buried(conn, deleted_tenants, [made.tenant_id]):
                raise NotFound(f"tenants/{made.tenant_id}")
            there = self._find(conn, upload.tenant_id, upload.upload_id)
            if there is None or there.writer != upload.writer:
                raise Aborted("the upload was cancelled, or another writer took over", reason="UPLOAD_MOVED")
            refuse_deleted(conn, upload.tenant_id, upload.upload_id)
            kept = same_bytes(conn, made.tenant_id, made.sha256, upload.headerless, now)
            existing = kept is not None
            if kept is None:
                key = ["tenant_id", "recording_id"]
                if not insert_if_absent(conn, recordings, vars(made), key):
                    raise AlreadyExists(recording_name(made.tenant_id, made.recording_id))
                kept = made
            if keep_until is None:
                conn.execute(sa.delete(uploads).where(*_of(upload.tenant_id, upload.upload_id)))
            else:
                values = {
                    "recording_id": kept.recording_id,
                    "existing": existing,
                    "pieces": [],
                    "writer": "",
                    "writer_until": None,
                    "expire_at": keep_until,
                }
                self._change(conn, upload, values)
            return kept, existing

        return await self._db.write(work)

    async def delete(self, upload: Upload) -> None:
        """Delete an upload's row, but no later one of its id."""
        await self._db.write(lambda conn: conn.execute(sa.delete(uploads).where(*_itself(upload))))

    async def remove(self, upload: Upload, blobs: Blobs) -> None:
        """Delete an upload with what arrived of it, unless it became a recording. A crash leaves a row to be swept.

        Its id is free again when it returns: before, another upload's bytes would go with these.
        """
        now = self._db.clock.now()
        values = {
            "expire_at": min(now, upload.expire_at),
            "writer": uuid.uuid4().hex,
            "writer_until": until(now, WRITER_SECONDS),
        }
        await self._db.write(lambda conn: self._change(conn, upload, values))
        await blobs.delete_folder(upload.folder, _MOST_PIECES)
        if not await self._became(upload):
            await blobs.delete(upload.blob_key)
        await self.delete(upload)

    async def remove_of(self, tenant: str, calls: Collection[str], blobs: Blobs) -> int:
        """Delete a tenant's uploads that are to be recordings of some calls, by their names; how many."""
        mine = sa.select(uploads).where(
            uploads.c.tenant_id == tenant, uploads.c.call.in_(tuple(calls)), uploads.c.call != ""
        )
        found = await self._db.read(lambda conn: conn.execute(mine).all())
        for row in found:
            await self.remove(Upload(**row._mapping), blobs)
        return len(found)

    async def bytes_of(self, tenant: str) -> int:
        """The bytes that are kept of a tenant's incomplete uploads."""
        total = sa.select(sa.func.coalesce(sa.func.sum(uploads.c.received_bytes), 0))
        total = total.where(uploads.c.tenant_id == tenant, uploads.c.recording_id == "")
        return int(await self._db.read(lambda conn: conn.execute(total).scalar_one()))

    async def sweep(self, blobs: Blobs) -> int:
        """Delete the uploads whose time has come, with what arrived of them; how many."""
        now = self._db.clock.now()
        total = 0
        async for tenant in owners(self._db, uploads):
            left: set[str] = set()
            while len(left) < _MOST_LEFT:
                query = sa.select(uploads).where(overdue(uploads, tenant, now)).limit(len(left) + _A_STEP)
                rows = await self._db.read(lambda conn: conn.execute(query).all())  # noqa: B023 - awaited here
                found = [Upload(**row._mapping) for row in rows if row.upload_id not in left]
                for gone in found:
                    left.add(gone.upload_id)
                    with set_aside("retention", tenant=tenant, of="uploads"):
                        await self.remove(gone, blobs)
                        left.discard(gone.upload_id)
                        total += 1
                if not found:
                    break
        return total

    async def _became(self, upload: Upload) -> bool:
        """Tell whether a recording has the id of an upload, and so the bytes."""
        ids = upload.tenant_id, upload.upload_id
        return await self._db.read(lambda conn: recording_of(conn, *ids)) is not None

    def _find(self, conn: Connection, tenant: str, upload: str) -> Upload | None:
        row = conn.execute(sa.select(uploads).where(*_of(tenant, upload))).one_or_none()
        return None if row is None else Upload(**row._mapping)

    def _load(self, conn: Connection, tenant: str, upload: str) -> Upload:
        found = self._find(conn, tenant, upload)
        if found is None or found.expire_at <= self._db.clock.now():
            raise NotFound(upload_name(tenant, upload))
        return found

    def _change(self, conn: Connection, upload: Upload, values: dict[str, Any]) -> None:
        conn.execute(sa.update(uploads).where(*_itself(upload)).values(values))

    def _end_writing(self, conn: Connection, upload: Upload, values: dict[str, Any]) -> None:
        mine = (*_itself(upload), uploads.c.writer == upload.writer)
        values = {**values, "writer": "", "writer_until": None}
        conn.execute(sa.update(uploads).where(*mine).values(values))


def until(now: datetime, seconds: float) -> datetime:
    """Return the moment so many seconds from now."""
    return now + timedelta(seconds=seconds)


def _silent(upload: Upload, now: datetime) -> bool:
    """Tell whether somebody wrote the whole bytes and was last heard of too long ago."""
    return upload.writer_until is not None and upload.writer_until <= now


def _is_held(upload: Upload, now: datetime) -> bool:
    """Tell whether somebody writes or deletes the whole bytes."""
    return upload.writer != "" and not _silent(upload, now)


def _is_running(upload: Upload, now: datetime) -> bool:
    """Tell whether an upload may go on, and nobody else may have its id."""
    over = upload.expire_at <= now or _silent(upload, now)
    return not (over or upload.recording_id or upload.failure)


def _of(tenant: str, upload: str) -> tuple[sa.ColumnElement[bool], ...]:
    return uploads.c.tenant_id == tenant, uploads.c.upload_id == upload


def _itself(upload: Upload) -> tuple[sa.ColumnElement[bool], ...]:
    """Find an upload, and no later one of its id."""
    return *_of(upload.tenant_id, upload.upload_id), uploads.c.created_at == upload.created_at
