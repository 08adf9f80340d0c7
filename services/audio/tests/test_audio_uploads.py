"""Uploads and downloads over real gRPC: one stream, parts, the same bytes again, and what is refused."""

import asyncio
import contextlib
import hashlib
import random
from datetime import timedelta

import audio_sounds as sounds
import grpc
import pytest
from test_audio_service import PARENT, TestEngine, serving
from trunkline.audio.v1 import recording_service_pb2 as pb
from trunkline.audio.v1 import upload_pb2
from trunkline.audio.v1 import upload_service_pb2 as parts
from trunkline.audio.v1.upload_service_pb2_grpc import UploadServiceStub
from trunkline.common.v1 import audio_pb2
from trunkline_audio.engines.base import EngineResult
from trunkline_audio.recordings.plans import TenantPlan
from trunkline_audio.slots import FairSlots
from trunkline_runtime.errors import ResourceExhausted, from_rpc_error
from trunkline_runtime.process.pace import Pace

CALL = sounds.wav(sounds.tone(2), sounds.tone(2, hertz=600))
OTHER = sounds.wav(sounds.tone(3))
DIGEST = hashlib.sha256(CALL).hexdigest()
NAME = f"{PARENT}/recordings/up-1"


async def free(_tenant):
    """Everybody may upload what they like."""
    return TenantPlan()


async def nobody(_call, _recording, _stays):
    """Nobody is told of deletions."""


class Sender:
    """The stubs, as somebody who uploads uses them."""

    def __init__(self, suite):
        self.suite = suite
        self.stub = suite.recordings
        self.parts = UploadServiceStub(suite.channel)

    async def upload(self, body=CALL, step=20_000, parent=PARENT, **more):
        messages = [
            pb.UploadRecordingRequest(data=body[at : at + step]) for at in range(0, len(body), step)
        ] or [pb.UploadRecordingRequest()]
        first = pb.UploadRecordingRequest(parent=parent, **more)
        first.data = messages[0].data
        return await self.stub.UploadRecording(iter([first, *messages[1:]]))

    async def create(self, upload_id="up-1", **fields):
        request = parts.CreateUploadRequest(
            parent=PARENT, upload_id=upload_id, upload=upload_pb2.Upload(**fields)
        )
        return await self.parts.CreateUpload(request)

    async def write(self, body, offset=0, size=0, upload_id="up-1", step=20_000):
        name = f"{PARENT}/uploads/{upload_id}"
        messages = [parts.WriteUploadRequest(name=name, offset=offset, size_bytes=size, data=body[:step])]
        messages += [
            parts.WriteUploadRequest(data=body[at : at + step]) for at in range(step, len(body), step)
        ]
        return await self.parts.WriteUpload(iter(messages))

    async def get(self, upload_id="up-1"):
        return await self.parts.GetUpload(parts.GetUploadRequest(name=f"{PARENT}/uploads/{upload_id}"))

    async def read(self, name=NAME, start=0, end=0, **more):
        call = self.stub.ReadRecording(pb.ReadRecordingRequest(name=name, start=start, end=end, **more))
        return b"".join([message.data async for message in call])

    async def listed(self):
        answer = await self.stub.ListRecordings(pb.ListRecordingsRequest(parent=PARENT))
        return {recording.name.rsplit("/", 1)[1] for recording in answer.recordings}

    def files(self):
        folder = self.suite.config.blobs_folder
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@contextlib.asynccontextmanager
async def sending(tmp_path, **settings):
    settings = {"plan_of": free, "forget": nobody, **settings}
    async with serving(tmp_path, **settings) as suite:
        yield Sender(suite)


async def refused(call):
    with pytest.raises(grpc.RpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    return error.code.name, error.reason, error.message


async def test_an_upload_is_a_recording_like_any_other(tmp_path):
    async with sending(tmp_path) as sender:
        done = await sender.upload(recording_id="up-1", call=f"{PARENT}/calls/c1", sha256=DIGEST)
        kept = done.recording
        assert not done.existing
        assert (kept.name, kept.call, kept.sha256, kept.size_bytes) == (
            NAME, f"{PARENT}/calls/c1", DIGEST, len(CALL),
        )  # fmt: skip
        assert (kept.format, kept.channels, kept.duration.seconds) == ("wav/pcm_s16le", 2, 2)
        assert await sender.read() == CALL
        heard = await sender.suite.transcribe("up-1")
        assert heard.segments[0].text == "hello there"
        await sender.stub.DeleteRecording(pb.DeleteRecordingRequest(name=f"{PARENT}/recordings/up-1"))
        assert sender.files() == []


async def test_without_an_id_the_service_makes_one(tmp_path):
    async with sending(tmp_path) as sender:
        done = await sender.upload()
        assert await sender.read(done.recording.name) == CALL


async def test_the_same_bytes_again_answer_the_recording_that_is_there(tmp_path):
    async with sending(tmp_path) as sender:
        first = await sender.upload(recording_id="up-1")
        again = await sender.upload(recording_id="up-2")
        assert again.existing
        assert again.recording == first.recording
        same = await sender.upload(recording_id="up-1")
        assert same.existing
        # With the digest nothing has to be sent.
        known = await sender.upload(b"", recording_id="up-3", sha256=DIGEST)
        assert known.existing
        assert known.recording == first.recording
        assert sender.files() == ["t.acme/r.up-1"]
        # Another tenant's bytes are its own.
        theirs = await sender.upload(recording_id="up-1", parent="tenants/globex")
        assert not theirs.existing


async def test_two_uploads_of_the_same_bytes_at_once_make_one_recording(tmp_path):
    async with sending(tmp_path) as sender:
        done = await asyncio.gather(*(sender.upload(recording_id=f"up-{n}") for n in range(4)))
        assert len({one.recording.name for one in done}) == 1
        assert sorted(one.existing for one in done) == [False, True, True, True]
        assert len(sender.files()) == 1


async def test_what_is_sent_must_be_what_was_stated(tmp_path):
    page, nothing = b"<!doctype html><p>Log in", b""
    async with sending(tmp_path, upload_max_bytes=100_000) as sender:
        cases = {
            ("INVALID_ARGUMENT", "NOT_AUDIO"): {"body": page},
            ("INVALID_ARGUMENT", "RECORDING_EMPTY"): {"body": nothing},
            ("INVALID_ARGUMENT", "SHA256_MISMATCH"): {"sha256": "0" * 64},
            ("INVALID_ARGUMENT", "SIZE_MISMATCH"): {"size_bytes": len(CALL) - 1},
            ("INVALID_ARGUMENT", "RECORDING_TOO_LARGE"): {"body": bytes(100_001)},
        }
        for expected, given in cases.items():
            assert (await refused(sender.upload(recording_id="up-1", **given)))[:2] == expected
        assert (await refused(sender.upload(size_bytes=len(CALL) + 1)))[1] == "SIZE_MISMATCH"
        assert (await refused(sender.upload(size_bytes=100_001)))[1] == "RECORDING_TOO_LARGE"
        assert "a web page" in (await refused(sender.upload(page)))[2]
        assert "headerless_format" in (await refused(sender.upload(bytes(range(256)) * 40)))[2]
        assert await sender.listed() == set()
        assert sender.files() == []
        assert not (await sender.upload(recording_id="up-1")).existing, "the id is free again"
        assert (await refused(sender.upload(OTHER, recording_id="up-1")))[0] == "ALREADY_EXISTS"
        assert await sender.read() == CALL


async def test_a_header_without_samples_is_a_recording_in_which_nobody_speaks(tmp_path):
    heard = []

    class Listening(TestEngine):
        async def transcribe(self, recording):
            async with recording.prepared() as prepared:
                heard.append((prepared.seconds, prepared.utterances))
            return EngineResult(engine=self.name, language="", lanes=1, speech_seconds=0.0, segments=())

    async with sending(tmp_path, engine=Listening()) as sender:
        done = await sender.upload(sounds.wav(sounds.tone(0)), recording_id="up-1")
        assert (done.recording.size_bytes, done.recording.duration.ToMilliseconds()) == (44, 0)
        said = await sender.suite.transcribe("up-1")
        assert (len(said.segments), said.speakers, heard) == (0, 0, [(0.0, ())])


async def test_bytes_without_a_header_are_what_the_request_says(tmp_path):
    body = bytes(random.Random(1).randbytes(16_000))
    async with sending(tmp_path) as sender:
        done = await sender.upload(body, headerless_format=audio_pb2.HEADERLESS_FORMAT_MULAW)
        assert done.recording.format.startswith("mulaw/")
        other = await sender.upload(body, headerless_format=audio_pb2.HEADERLESS_FORMAT_ALAW)
        assert not other.existing, "read otherwise it is another recording"


async def test_a_stream_that_is_cut_leaves_nothing(tmp_path):
    async with sending(tmp_path) as sender:
        for turn in range(12):
            call = sender.stub.UploadRecording()
            await call.write(
                pb.UploadRecordingRequest(parent=PARENT, recording_id="up-1", data=CALL[:30_000])
            )
            if turn % 2:
                await call.write(pb.UploadRecordingRequest(data=CALL[30_000:]))
                await asyncio.sleep(0.02)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(10):
            while sender.files():
                await asyncio.sleep(0.02)
        assert await sender.listed() == set()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(grpc.RpcError):
                    assert not (await sender.upload(recording_id="up-1")).existing
                    break
                await asyncio.sleep(0.05)


async def test_a_sender_that_says_nothing_is_sent_away(tmp_path):
    async with sending(tmp_path, pace=Pace(intervals={"uploads.read": 0.2})) as sender:
        call = sender.stub.UploadRecording()
        await call.write(pb.UploadRecordingRequest(parent=PARENT, data=b"RIFF"))
        assert (await refused(call))[:2] == ("DEADLINE_EXCEEDED", "UPLOAD_TOO_SLOW")
        assert sender.files() == []


async def test_a_quota_that_is_used_up_takes_no_more(tmp_path):
    async def small(_tenant):
        return TenantPlan(quota_bytes=10, keep_days=3)

    async with sending(tmp_path, plan_of=small) as sender:
        first = await sender.upload()
        assert (
            first.recording.expire_time.ToDatetime() - first.recording.create_time.ToDatetime()
            == timedelta(3)
        )
        assert (await refused(sender.upload(OTHER)))[:2] == ("RESOURCE_EXHAUSTED", "RECORDINGS_QUOTA")
        assert (await refused(sender.create()))[1] == "RECORDINGS_QUOTA"
        assert (await sender.upload(sha256=DIGEST)).existing, "what is there takes no room"


async def test_what_has_arrived_of_uploads_counts_towards_the_quota(tmp_path):
    async def some(_tenant):
        return TenantPlan(quota_bytes=100_000)

    async with sending(tmp_path, plan_of=some) as sender:
        for n in range(2):
            await sender.create(f"up-{n}", size_bytes=200_000)
        await sender.write(bytes(60_000), upload_id="up-0")
        await sender.write(bytes(60_000), upload_id="up-1")
        assert (await refused(sender.create("up-2")))[1] == "RECORDINGS_QUOTA"
        assert (await refused(sender.upload(OTHER)))[1] == "RECORDINGS_QUOTA"
        await sender.write(bytes(10_000), 60_000, upload_id="up-0")  # its own bytes are no reason
        await sender.parts.DeleteUpload(parts.DeleteUploadRequest(name=f"{PARENT}/uploads/up-1"))
        await sender.create("up-2")


async def test_streams_that_come_together_pass_the_quota_by_one(tmp_path):
    async def small(_tenant):
        return TenantPlan(quota_bytes=10)

    async with sending(tmp_path, plan_of=small) as sender:
        calls = [sender.stub.UploadRecording() for _ in range(3)]
        for call in calls:
            await call.write(pb.UploadRecordingRequest(parent=PARENT))
        await asyncio.sleep(0.3)  # all are let in
        outcomes = []
        for n, call in enumerate(calls):
            await call.write(pb.UploadRecordingRequest(data=sounds.wav(sounds.tone(1 + n))))
            await call.done_writing()
            outcomes.append(await asyncio.gather(call, return_exceptions=True))
        assert [isinstance(outcome, grpc.RpcError) for (outcome,) in outcomes] == [False, True, True]
        assert len(sender.files()) == 1


@pytest.mark.parametrize("sha256", ["", "0" * 64], ids=["sound", "not what was stated"])
async def test_a_stream_whose_upload_is_deleted_leaves_nothing(tmp_path, sha256):
    async with sending(tmp_path) as sender:
        call = sender.stub.UploadRecording()
        await call.write(
            pb.UploadRecordingRequest(parent=PARENT, recording_id="up-1", sha256=sha256, data=CALL[:100])
        )
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(grpc.RpcError):
                    await sender.parts.DeleteUpload(parts.DeleteUploadRequest(name=f"{PARENT}/uploads/up-1"))
                    break
                await asyncio.sleep(0.01)
        await call.write(pb.UploadRecordingRequest(data=CALL[100:]))
        await call.done_writing()
        assert (await refused(call))[0] == ("INVALID_ARGUMENT" if sha256 else "ABORTED")
        assert await sender.listed() == set()
        assert sender.files() == []
        assert not (await sender.upload(recording_id="up-1")).existing


async def test_a_deleted_recording_is_not_uploaded_again(tmp_path):
    async with sending(tmp_path) as sender:
        await sender.upload(recording_id="up-1")
        await sender.stub.DeleteRecording(pb.DeleteRecordingRequest(name=NAME))
        assert (await refused(sender.upload(recording_id="up-1")))[1] == "RECORDING_DELETED"
        assert (await refused(sender.create()))[1] == "RECORDING_DELETED"
        assert sender.files() == []
        assert not (await sender.upload(recording_id="up-2")).existing


async def test_one_tenant_leaves_downloads_to_others(tmp_path):
    long = sounds.wav(sounds.tone(600))  # more than is held between the two
    async with sending(tmp_path, downloads_at_once=2) as sender:
        await sender.upload(long, recording_id="up-1")
        await sender.upload(recording_id="up-1", parent="tenants/globex")
        slow = sender.stub.ReadRecording(pb.ReadRecordingRequest(name=NAME))
        await slow.read()
        assert (await refused(sender.read()))[:2] == ("RESOURCE_EXHAUSTED", "DOWNLOADS_BUSY")
        assert await sender.read("tenants/globex/recordings/up-1") == CALL
        slow.cancel()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(grpc.RpcError):
                    assert await sender.read() == long
                    break
                await asyncio.sleep(0.05)


async def test_a_later_message_names_no_other_tenant(tmp_path):
    async with sending(tmp_path) as sender:
        call = sender.stub.UploadRecording()
        await call.write(pb.UploadRecordingRequest(parent=PARENT, data=CALL[:100]))
        await call.write(pb.UploadRecordingRequest(parent="tenants/globex", data=CALL[100:]))
        assert (await refused(call))[0] == "INVALID_ARGUMENT"
        assert sender.files() == []


def test_one_tenant_leaves_slots_to_others():
    slots = FairSlots(8, "uploads")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(slots.held("acme"))
        with pytest.raises(ResourceExhausted):
            stack.enter_context(slots.held("acme"))
        for tenant in ("globex", "globex", "initech"):
            stack.enter_context(slots.held(tenant))
        stack.enter_context(slots.held("hooli"))
        with pytest.raises(ResourceExhausted):
            stack.enter_context(slots.held("quiet"))
    with slots.held("acme"):
        pass


async def test_an_upload_in_parts_goes_on_after_a_restart(tmp_path):
    async with sending(tmp_path) as sender:
        begun = await sender.create(sha256=DIGEST, call=f"{PARENT}/calls/c1")
        assert begun.name == f"{PARENT}/uploads/up-1"
        half = await sender.write(CALL[:30_000])
        assert (half.received_bytes, half.HasField("recording")) == (30_000, False)
    async with sending(tmp_path) as sender:
        assert (await sender.get()).received_bytes == 30_000
        late = await refused(sender.write(CALL[40_000:], offset=40_000))
        assert late[:2] == ("OUT_OF_RANGE", "UPLOAD_OFFSET")
        # What was kept already may come again.
        done = await sender.write(CALL[20_000:], offset=20_000, size=len(CALL))
        assert done.recording.name == NAME
        assert done.recording.sha256 == DIGEST
        assert done.recording.call == f"{PARENT}/calls/c1"
        assert sender.files() == ["t.acme/r.up-1"]
        assert await sender.get() == done
        assert await sender.write(b"", offset=len(CALL), size=len(CALL)) == done, "asked again"
        assert await sender.read() == CALL


async def test_what_came_before_a_part_failed_is_kept(tmp_path):
    async with sending(tmp_path, pace=Pace(intervals={"uploads.read": 0.3})) as sender:
        await sender.create(size_bytes=len(CALL))
        call = sender.parts.WriteUpload()
        await call.write(parts.WriteUploadRequest(name=f"{PARENT}/uploads/up-1", data=CALL[:12_345]))
        assert (await refused(call))[1] == "UPLOAD_TOO_SLOW"
        assert (await sender.get()).received_bytes == 12_345
        assert (await sender.write(CALL[12_345:], offset=12_345)).recording.sha256 == DIGEST


async def test_parts_that_make_no_recording_say_so_again(tmp_path):
    async with sending(tmp_path) as sender:
        await sender.create()
        assert (await refused(sender.write(b"<html>no", size=8)))[1] == "NOT_AUDIO"
        assert (await refused(sender.get()))[1] == "NOT_AUDIO"
        assert sender.files() == []
        await sender.create(sha256="0" * 64)
        assert (await refused(sender.write(CALL, size=len(CALL))))[1] == "SHA256_MISMATCH"
        await sender.create(size_bytes=10)
        assert (await refused(sender.write(CALL)))[:2] == ("INVALID_ARGUMENT", "RECORDING_TOO_LARGE")
        assert (await refused(sender.write(CALL, size=len(CALL))))[0] == "INVALID_ARGUMENT"


async def test_parts_of_the_same_bytes_answer_what_is_there(tmp_path):
    async with sending(tmp_path) as sender:
        first = await sender.upload(recording_id="first")
        known = await sender.create("up-2", sha256=DIGEST)
        assert known.existing
        assert known.recording == first.recording
        await sender.create("up-3")
        done = await sender.write(CALL, size=len(CALL), upload_id="up-3")
        assert done.existing
        assert done.recording == first.recording
        assert sender.files() == ["t.acme/r.first"]


async def test_an_id_is_one_uploads_at_a_time(tmp_path):
    async with sending(tmp_path, uploads_open=2) as sender:
        await sender.create()
        assert (await refused(sender.create()))[:2] == ("ABORTED", "UPLOAD_RUNNING")
        assert (await refused(sender.upload(recording_id="up-1")))[1] == "UPLOAD_RUNNING"
        await sender.create("up-2")
        code, why, message = await refused(sender.create("up-3"))
        assert (code, why) == ("RESOURCE_EXHAUSTED", "UPLOADS_OPEN")
        assert f"the oldest are {PARENT}/uploads/up-1, {PARENT}/uploads/up-2" in message
        await sender.write(CALL[:10_000])
        await sender.parts.DeleteUpload(parts.DeleteUploadRequest(name=f"{PARENT}/uploads/up-1"))
        assert (await refused(sender.get()))[0] == "NOT_FOUND"
        assert sender.files() == []
        await sender.create()


async def test_ranges_are_read(tmp_path):
    async with sending(tmp_path) as sender:
        await sender.upload(recording_id="up-1")
        assert await sender.read(start=10, end=20) == CALL[10:20]
        assert await sender.read(start=len(CALL) - 5) == CALL[-5:]
        assert await sender.read(start=10, end=len(CALL) + 9) == CALL[10:]
        assert (await refused(sender.read(start=len(CALL))))[0] == "OUT_OF_RANGE"
        for end in (9, 10):
            wrong = await refused(sender.read(start=10, end=end))
            assert wrong == (
                "INVALID_ARGUMENT", "INVALID_ARGUMENT", "end: must be 0, or more than start, which is 10",
            )  # fmt: skip
        assert await sender.read(sha256=DIGEST) == CALL
        assert (await refused(sender.read(sha256="0" * 64)))[:2] == ("ABORTED", "RECORDING_CHANGED")
        assert (await refused(sender.read(f"{PARENT}/recordings/none")))[0] == "NOT_FOUND"


async def test_a_link_names_its_recording_and_its_end(tmp_path):
    async with sending(tmp_path) as sender:
        await sender.upload(recording_id="up-1")
        request = pb.CreateDownloadLinkRequest(name=NAME)
        answer = await sender.stub.CreateDownloadLink(request)
        assert answer.path.startswith(f"/v1/{NAME}:download?link=")
        request.lifetime.FromSeconds(8 * 86_400)
        assert (await refused(sender.stub.CreateDownloadLink(request)))[0] == "INVALID_ARGUMENT"
        request.name = f"{PARENT}/recordings/none"
        request.lifetime.FromSeconds(60)
        assert (await refused(sender.stub.CreateDownloadLink(request)))[0] == "NOT_FOUND"
