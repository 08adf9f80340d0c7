"""Uploads whose writer leaves, is overtaken, or is cancelled: no bytes of a recording go, and none stay behind."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta

import pytest
from trunkline_audio import schema
from trunkline_audio.media.blobs.local import LocalBlobs
from trunkline_audio.media.preparation import Examined
from trunkline_audio.recordings.plans import TenantPlan
from trunkline_audio.recordings.quota import RecordingsQuota
from trunkline_audio.recordings.rows import Recordings
from trunkline_audio.recordings.uploads.rows import WRITER_SECONDS, Uploads
from trunkline_audio.recordings.uploads.uploader import Uploader, UploadLimits, UploadOrder
from trunkline_runtime.errors import Aborted, FailedPrecondition, NotFound
from trunkline_runtime.process.pace import Pace
from trunkline_store import Database, StoreBusy
from trunkline_store.clock import FakeClock

ORDER = UploadOrder(tenant_id="acme", recording_id="up-1")
BODY = b"sound " * 1_000


class Interrupted(Uploads):
    """The rows, whose next `calls` are committed and never answered: their asker has gone."""

    calls = frozenset()

    async def complete(self, *args):
        done = await super().complete(*args)
        if "complete" in self.calls:
            raise asyncio.CancelledError
        return done

    async def append(self, *args):
        done = await super().append(*args)
        if "append" in self.calls:
            raise asyncio.CancelledError
        return done


class Sound:
    """Takes anything for a recording; `meanwhile` is done while it looks."""

    meanwhile = None

    async def examine(self, key, tenant, headerless):
        if self.meanwhile is not None:
            doing, self.meanwhile = self.meanwhile, None
            await doing()
        return Examined("wav/pcm", 1, 8_000, 2.0)


class Bench:
    def __init__(self, db, folder, pace):
        self.db, self.folder, self.blobs = db, folder, LocalBlobs(folder)
        self.recordings, self.uploads, self.probe = Recordings(db), Interrupted(db, 100), Sound()
        self.uploader = self.another(self.probe, pace)

    def another(self, probe, pace=None):
        """Return an uploader beside the others, as another replica has one."""

        async def free(_tenant):
            return TenantPlan()

        return Uploader(
            uploads=self.uploads,
            recordings=self.recordings,
            blobs=self.blobs,
            probe=probe,
            quota=RecordingsQuota(self.recordings),
            plan_of=free,
            clock=self.db.clock,
            limits=UploadLimits(1 << 20, 10, 60.0, 3_600.0),
            pace=pace or Pace(),
        )

    def files(self):
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.folder)) for path in found)

    async def write(self, uploader=None, *, whole=True):
        size = len(BODY) if whole else 0
        return await (uploader or self.uploader).write("acme", "up-1", 0, size, sent(BODY))


async def sent(body):
    yield body


@contextlib.asynccontextmanager
async def bench(tmp_path, pace=None):
    clock = FakeClock()
    url = f"sqlite:///{tmp_path}/audio.db"
    async with await Database.open(
        url, schema.metadata, migrations="trunkline_audio.migrations", clock=clock
    ) as db:
        made = Bench(db, tmp_path / "blobs", pace)
        yield made
        await made.uploader.close()


@pytest.mark.parametrize("parts", [False, True])
async def test_who_leaves_while_the_recording_is_committed_leaves_its_bytes(tmp_path, parts):
    async with bench(tmp_path) as b:
        if parts:
            await b.uploader.create(ORDER)
        b.uploads.calls = {"complete"}
        with pytest.raises(asyncio.CancelledError):
            await (b.write() if parts else b.uploader.upload(ORDER, sent(BODY)))
        assert await b.recordings.get("acme", "up-1") is not None
        assert "t.acme/r.up-1" in b.files()


async def test_who_leaves_while_a_piece_is_noted_leaves_its_bytes(tmp_path):
    async with bench(tmp_path) as b:
        await b.uploader.create(ORDER)
        b.uploads.calls = {"append"}
        with pytest.raises(asyncio.CancelledError):
            await b.write(whole=False)
        b.uploads.calls = frozenset()
        upload, _ = await b.uploader.get("acme", "up-1")
        assert upload.received_bytes == len(BODY)
        upload, recording = await b.uploader.write("acme", "up-1", len(BODY), len(BODY), sent(b""))
        assert recording is not None, "what had arrived is still there"


@pytest.mark.parametrize("parts", [False, True])
async def test_a_writer_that_was_overtaken_takes_nothing_away(tmp_path, parts):
    """It said nothing for so long that another one completed the upload: the recording is that one's."""
    async with bench(tmp_path) as b:

        async def overtaken():
            b.db.clock.advance(WRITER_SECONDS + 1)
            other = b.another(Sound())
            await (b.write(other) if parts else other.upload(ORDER, sent(BODY)))

        if parts:
            await b.uploader.create(ORDER)
        b.probe.meanwhile = overtaken
        with pytest.raises(Aborted):
            await (b.write() if parts else b.uploader.upload(ORDER, sent(BODY)))
        assert await b.recordings.get("acme", "up-1") is not None
        assert b.files() == ["t.acme/r.up-1"]


@pytest.mark.parametrize("parts", [False, True])
async def test_an_upload_that_is_cancelled_while_it_is_completed_is_no_recording(tmp_path, parts):
    async with bench(tmp_path) as b:
        if parts:
            await b.uploader.create(ORDER)
        b.probe.meanwhile = lambda: b.uploader.cancel("acme", "up-1")
        with pytest.raises((Aborted, NotFound)):
            await (b.write() if parts else b.uploader.upload(ORDER, sent(BODY)))
        assert await b.recordings.get("acme", "up-1") is None
        assert b.files() == []


async def test_a_writer_goes_on_saying_that_it_lives_after_the_store_was_busy(tmp_path):
    held = []

    class Busy(Interrupted):
        async def hold(self, upload, writer):
            held.append(writer)
            if len(held) == 1:
                raise StoreBusy("busy")
            return await super().hold(upload, writer)

    async with bench(tmp_path, Pace(intervals={"uploads.renew": 0.01})) as b:
        b.uploads = Busy(b.db, 100)
        b.probe.meanwhile = lambda: asyncio.sleep(0.1)
        uploader = b.another(b.probe, Pace(intervals={"uploads.renew": 0.01}))
        assert not (await uploader.upload(ORDER, sent(BODY))).existing
        assert len(held) > 1


async def test_a_crash_while_an_upload_is_cancelled_leaves_a_row_that_is_swept(tmp_path):
    async with bench(tmp_path) as b:
        await b.uploader.create(ORDER)
        await b.write(whole=False)

        class Gone(LocalBlobs):
            async def delete_folder(self, folder, most):
                raise OSError("the disk")

        with pytest.raises(OSError, match="the disk"):
            await b.uploads.remove(await b.uploads.get("acme", "up-1"), Gone(b.folder))
        with pytest.raises(NotFound):
            await b.uploader.get("acme", "up-1")
        assert len(b.files()) == 1
        assert await b.uploads.sweep(b.blobs) == 1
        assert b.files() == []


async def test_one_upload_that_cannot_be_swept_does_not_hold_up_the_others(tmp_path):
    async with bench(tmp_path) as b:
        for number in range(3):
            await b.uploader.create(replace(ORDER, recording_id=f"up-{number}"))
        b.db.clock.advance(7_200)

        class Bad(LocalBlobs):
            async def delete_folder(self, folder, most):
                if folder.endswith("up-1"):
                    raise OSError("the disk")
                return await super().delete_folder(folder, most)

        assert await b.uploads.sweep(Bad(b.folder)) == 2
        assert await b.uploads.sweep(b.blobs) == 1


async def test_uploads_that_failed_are_not_open(tmp_path):
    async with bench(tmp_path) as b:
        b.uploads = Interrupted(b.db, 1)
        uploader = b.another(b.probe)
        await uploader.create(replace(ORDER, sha256="0" * 64))
        with contextlib.suppress(Exception):
            await b.write(uploader)
        await uploader.create(replace(ORDER, recording_id="up-2"))


async def test_a_recording_that_was_deleted_on_request_is_not_uploaded_again(tmp_path):
    async with bench(tmp_path) as b:
        await b.uploader.upload(ORDER, sent(BODY))
        await b.recordings.delete("acme", "up-1")
        for again in (b.uploader.upload(ORDER, sent(BODY)), b.uploader.create(ORDER)):
            with pytest.raises(FailedPrecondition) as refused:
                await again
            assert refused.value.reason == "RECORDING_DELETED"


async def test_what_is_swept_is_not_a_later_upload_of_its_id(tmp_path):
    async with bench(tmp_path) as b:
        await b.uploader.create(ORDER)
        old = await b.uploads.get("acme", "up-1")
        b.db.clock.advance(timedelta(hours=2).total_seconds())
        await b.uploader.create(ORDER)
        await b.uploads.delete(old)
        assert (await b.uploads.get("acme", "up-1")).created_at > old.created_at
