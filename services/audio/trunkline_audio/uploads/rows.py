"""Uploads as rows: begun, moved on piece by piece, turned into a recording, swept."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_runtime.errors import Aborted, AlreadyExists, NotFound, ResourceExhausted
from trunkline_store.database import Database
from trunkline_store.inserts import insert_if_absent
from trunkline_store.records.deletion import delete_keys, owners
from trunkline_store.records.expiry import lives, overdue
from trunkline_store.records.tombstones import buried

from trunkline_audio import tombstones
from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.names import recording_name, upload_name
from trunkline_audio.recordings.rows import Recording, blob_folder, blob_key, recording_of
from trunkline_audio.schema import deleted_tenants, recordings, uploads

_A_STEP = 20
_SAME_MOST = 10
_MOST_PIECES = 10_000


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

        Raises NotFound for a deleted tenant, AlreadyExists for a recording's id, FailedPrecondition for that of one
        that was deleted on request, Aborted for an upload's, and ResourceExhausted when too many are open.
        """
        now = self._db.clock.now()
        table = uploads.c

        def work(conn: Connection) -> None:
            if buried(conn, deleted_tenants, [made.tenant_id]):
                raise NotFound(f"tenants/{made.tenant_id}")
            if recording_of(conn, made.tenant_id, made.upload_id) is not None:
                raise AlreadyExists(recording_name(made.tenant_id, made.upload_id))
            _refuse(conn, made)
            there = self._find(conn, made.tenant_id, made.upload_id)
            if there is not None and _is_running(there, now):
                raise Aborted(
                    f"{upload_name(made.tenant_id, made.upload_id)} is not complete: go on with it, or delete it",
                    reason="UPLOAD_RUNNING",
                )
            conn.execute(sa.delete(uploads).where(*_of(made.tenant_id, made.upload_id)))
            running = sa.select(sa.func.count()).where(
                table.tenant_id == made.tenant_id, table.recording_id == "", table.expire_at > now
            )
            if conn.execute(running).scalar_one() >= self._most_open:
                raise ResourceExhausted(
                    f"{self._most_open} uploads are not complete; complete or delete some",
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

    async def hold(self, upload: Upload, writer: str, until: datetime) -> Upload:
        """Let `writer` alone write the whole bytes, until then; again to go on. Raises Aborted for another's."""
        now = self._db.clock.now()

        def work(conn: Connection) -> Upload:
            there = self._load(conn, upload.tenant_id, upload.upload_id)
            if there.writer not in ("", writer) and not _silent(there, now):
                raise Aborted("the upload is being completed; ask again in a moment", reason="UPLOAD_RUNNING")
            if not (there.recording_id or there.failure):
                self._change(conn, there, {"writer": writer, "writer_until": until})
            return there

        return await self._db.write(work)

    async def is_writer(self, upload: Upload) -> bool:
        """Tell whether the writer of this upload still is the one. In the order of writes: what was begun is seen."""

        def work(conn: Connection) -> bool:
            there = self._find(conn, upload.tenant_id, upload.upload_id)
            return there is not None and there.writer == upload.writer

        return await self._db.write(work)

    async def reclaim(self, upload: Upload) -> bool:
        """Tell whether the bytes under the key are still this writer's to delete; nobody gets the id meanwhile.

        An upload that was deleted meanwhile gets its row back, so that its writer can delete what it wrote.
        """

        def work(conn: Connection) -> bool:
            if recording_of(conn, upload.tenant_id, upload.upload_id) is not None:
                return False
            there = self._find(conn, upload.tenant_id, upload.upload_id)
            if there is None and not buried(conn, deleted_tenants, [upload.tenant_id]):
                insert_if_absent(conn, uploads, {**vars(upload), "pieces": []}, ["tenant_id", "upload_id"])
            return there is None or there.writer == upload.writer

        return await self._db.write(work)

    async def release(self, upload: Upload) -> None:
        """Let go of what `hold` took: another try may succeed. One that was deleted meanwhile goes."""
        values = {"writer": "", "writer_until": None}
        gone = sa.delete(uploads).where(*_of(upload.tenant_id, upload.upload_id))

        def work(conn: Connection) -> None:
            there = self._find(conn, upload.tenant_id, upload.upload_id)
            if there is None or there.writer != upload.writer:
                return
            if there.pieces:
                self._change(conn, upload, values)
            else:
                conn.execute(gone)

        await self._db.write(work)

    async def fail(self, upload: Upload, failure: list[str]) -> None:
        """Say that it can never become a recording."""
        values = {
            "failure": failure,
            "pieces": [],
            "received_bytes": 0,
            "writer": "",
            "writer_until": None,
        }
        await self._db.write(lambda conn: self._change(conn, upload, values))

    async def complete(
        self, upload: Upload, made: Recording, keep_until: datetime | None
    ) -> tuple[Recording, bool]:
        """Keep the recording of an upload unless its tenant has the bytes; what is kept, and whether it was there.

        The upload's row stays until `keep_until`; None: it goes. Raises NotFound for a deleted tenant, and for an
        upload that was deleted or is another writer's by now, FailedPrecondition for a recording that was deleted on
        request, AlreadyExists when another recording took the id meanwhile.
        """
        now = self._db.clock.now()

        def work(conn: Connection) -> tuple[Recording, bool]:
            if buried(conn, deleted_tenants, [made.tenant_id]):
                raise NotFound(f"tenants/{made.tenant_id}")
            there = self._find(conn, made.tenant_id, made.recording_id)
            if there is None or there.writer != upload.writer:
                raise NotFound(upload_name(made.tenant_id, made.recording_id))
            _refuse(conn, upload)
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

    async def delete(self, tenant: str, upload: str) -> bool:
        """Delete a row; False when it was not there."""
        gone = sa.delete(uploads).where(*_of(tenant, upload))
        return bool(await self._db.write(lambda conn: conn.execute(gone).rowcount))

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
            total += await delete_uploads(self._db, blobs, overdue(uploads, tenant, now))
        return total

    def _find(self, conn: Connection, tenant: str, upload: str) -> Upload | None:
        row = conn.execute(sa.select(uploads).where(*_of(tenant, upload))).one_or_none()
        return None if row is None else Upload(**row._mapping)

    def _load(self, conn: Connection, tenant: str, upload: str) -> Upload:
        found = self._find(conn, tenant, upload)
        if found is None or found.expire_at <= self._db.clock.now():
            raise NotFound(upload_name(tenant, upload))
        return found

    def _change(self, conn: Connection, upload: Upload, values: dict[str, Any]) -> None:
        conn.execute(sa.update(uploads).where(*_of(upload.tenant_id, upload.upload_id)).values(values))


async def delete_uploads(
    db: Database, blobs: Blobs, condition: sa.ColumnElement[bool], most: int | None = None
) -> int:
    """Delete the uploads that fit, `most` or a few more at most, with what arrived of them; how many."""
    query = sa.select(uploads).where(condition).limit(_A_STEP)
    total = 0
    while most is None or total < most:
        found = await db.read(lambda conn: conn.execute(query).all())
        for row in found:
            gone = Upload(**row._mapping)
            await blobs.delete_folder(gone.folder, _MOST_PIECES)
            if not await _became(db, gone):
                await blobs.delete(gone.blob_key)
        keys = [(row.tenant_id, row.upload_id) for row in found]
        await db.write(lambda conn: delete_keys(conn, uploads, keys))  # noqa: B023 - awaited here
        total += len(keys)
        if len(found) < _A_STEP:
            break
    return total


async def _became(db: Database, upload: Upload) -> bool:
    """Tell whether a recording has the id of an upload, and so the bytes."""
    ids = upload.tenant_id, upload.upload_id
    return await db.read(lambda conn: recording_of(conn, *ids)) is not None


def _refuse(conn: Connection, upload: Upload) -> None:
    """Raise FailedPrecondition for the id of a recording that was deleted on request."""
    name = recording_name(upload.tenant_id, upload.upload_id)
    tombstones.refuse(conn, upload.tenant_id, name, "RECORDING_DELETED")


def until(now: datetime, seconds: float) -> datetime:
    """Return the moment so many seconds from now."""
    return now + timedelta(seconds=seconds)


def _silent(upload: Upload, now: datetime) -> bool:
    """Tell whether somebody wrote the whole bytes and was last heard of too long ago."""
    return upload.writer_until is not None and upload.writer_until <= now


def _is_running(upload: Upload, now: datetime) -> bool:
    """Tell whether an upload may go on, and nobody else may have its id."""
    over = upload.expire_at <= now or _silent(upload, now)
    return not (over or upload.recording_id or upload.failure)


def _of(tenant: str, upload: str) -> tuple[sa.ColumnElement[bool], ...]:
    return uploads.c.tenant_id == tenant, uploads.c.upload_id == upload
