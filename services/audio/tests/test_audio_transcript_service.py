"""Exports, searches, features, and batches over real gRPC."""

from datetime import datetime, timedelta

import grpc
import pytest
import webvtt
from test_audio_operations import QUICK, Asking
from test_audio_service import PARENT, TestEngine, failing, serving
from trunkline.audio.v1 import (
    audio_feature_service_pb2,
    recording_service_pb2,
    transcription_service_pb2_grpc,
)
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline.audio.v1.audio_feature_service_pb2_grpc import AudioFeatureServiceStub
from trunkline_audio.recordings.plans import TenantPlan
from trunkline_runtime.errors.wire import from_status
from trunkline_runtime.identity.callers import Caller, CallerKind, Role

NOBODY = f"{PARENT}/transcripts/nobody"


async def test_a_transcript_is_exported_searched_and_summed_up(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        made = await suite.transcribe()
        text = await suite.transcripts.ExportTranscript(pb.ExportTranscriptRequest(name=made.name))
        assert text.content_type == "text/plain; charset=utf-8"
        assert text.data == b"[00:00:00] Agent: hello there\n[00:00:01] Customer: hi\n"
        vtt = await suite.transcripts.ExportTranscript(
            pb.ExportTranscriptRequest(name=made.name, format="vtt")
        )
        assert [cue.text for cue in webvtt.from_string(vtt.data.decode())] == ["hello there", "hi"]
        found = await suite.transcripts.SearchTranscript(
            pb.SearchTranscriptRequest(name=made.name, query="THER")
        )
        (match,) = found.matches
        assert (match.segment, match.text_offset, match.text_length) == (0, 6, 5)
        assert (match.start_offset.ToMilliseconds(), match.end_offset.ToMilliseconds()) == (500, 1000)
        assert match.snippet == "hello <mark>there</mark>"
        features = AudioFeatureServiceStub(suite.channel)
        request = audio_feature_service_pb2.GetAudioFeaturesRequest(name=f"{made.name}/audioFeatures")
        talk = [
            one.talk_duration.ToMilliseconds() for one in (await features.GetAudioFeatures(request)).speakers
        ]
        assert talk == [750, 750]
        request.name = f"{NOBODY}/audioFeatures"
        assert (await failing(features.GetAudioFeatures(request))).code.name == "NOT_FOUND"


async def test_what_is_not_there_or_not_asked_well_is_refused(tmp_path):
    async with serving(tmp_path) as suite:
        for request in (
            pb.ExportTranscriptRequest(name=NOBODY),
            pb.SearchTranscriptRequest(name=NOBODY, query="a"),
        ):
            call = suite.transcripts.ExportTranscript
            if isinstance(request, pb.SearchTranscriptRequest):
                call = suite.transcripts.SearchTranscript
            assert (await failing(call(request))).code.name == "NOT_FOUND"
        wrong = pb.ExportTranscriptRequest(name=NOBODY, format="pdf")
        assert (await failing(suite.transcripts.ExportTranscript(wrong))).code.name == "INVALID_ARGUMENT"
        await suite.fetch()
        wrong = pb.SearchTranscriptRequest(name=(await suite.transcribe()).name, query='"')
        assert (await failing(suite.transcripts.SearchTranscript(wrong))).code.name == "INVALID_ARGUMENT"


def one(identity, **more):
    return pb.TranscribeRecordingRequest(name=f"{PARENT}/recordings/{identity}", **more)


async def test_each_request_of_a_batch_has_a_result_of_its_own(tmp_path):
    async with serving(tmp_path, pace=QUICK) as suite:
        await suite.fetch()
        await suite.fetch(identity="rec-2")
        requests = [
            one("rec-1"),
            one("nobody"),
            one("rec-2"),
            pb.TranscribeRecordingRequest(name="no name"),
            pb.TranscribeRecordingRequest(name="tenants/other/recordings/rec-1"),
            one("rec-1", language="not a language"),
            one("rec-1", engine="nobody"),
            pb.TranscribeRecordingRequest(),
        ]
        batch = pb.BatchTranscribeRecordingsRequest(parent=PARENT, requests=requests)
        answer = await suite.transcripts.BatchTranscribeRecordings(batch)
        assert [result.recording for result in answer.results] == [request.name for request in requests]
        kinds = [result.WhichOneof("outcome") for result in answer.results]
        assert kinds == ["operation", "error", "operation", *["error"] * 5]
        codes = [from_status(result.error).code.name for result in answer.results if result.HasField("error")]
        assert codes == ["NOT_FOUND", *["INVALID_ARGUMENT"] * 5]
        asking = Asking(suite)
        for result in answer.results:
            if result.operation:
                assert (await asking.wait(result.operation)).HasField("response")


async def test_a_batch_is_repeatable_by_its_request_id(tmp_path):
    async with serving(tmp_path, pace=QUICK) as suite:
        await suite.fetch()
        batch = pb.BatchTranscribeRecordingsRequest(
            parent=PARENT, request_id="b1", requests=[one("rec-1"), one("rec-1", language="de")]
        )
        first = await suite.transcripts.BatchTranscribeRecordings(batch)
        assert len({result.operation for result in first.results}) == 2
        assert await suite.transcripts.BatchTranscribeRecordings(batch) == first
        batch.request_id = ""
        other = await suite.transcripts.BatchTranscribeRecordings(batch)
        assert {result.operation for result in other.results}.isdisjoint(
            result.operation for result in first.results
        )


@pytest.mark.parametrize("count", [0, 101])
async def test_a_batch_has_1_to_100_requests(tmp_path, count):
    async with serving(tmp_path) as suite:
        batch = pb.BatchTranscribeRecordingsRequest(parent=PARENT, requests=[one("rec-1")] * count)
        error = await failing(suite.transcripts.BatchTranscribeRecordings(batch))
        assert error.code.name == "INVALID_ARGUMENT"


async def test_the_same_sound_is_not_heard_again_after_a_restart_either(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch(identity="rec-1")
        first = await suite.transcribe("rec-1")
        assert not first.reused
    async with serving(tmp_path, pace=QUICK) as suite:
        await suite.fetch(identity="rec-2")
        second = await suite.transcribe("rec-2")
        asking = Asking(suite)
        await suite.fetch(identity="rec-3")
        operation = await asking.start(f"{PARENT}/recordings/rec-3")
        third = await asking.transcript(await asking.wait(operation.name))
        assert suite.engine.calls == 0
        for other in (second, third):
            assert other.reused
            assert other.segments == first.segments
            assert other.name != first.name
            assert not other.HasField("usage")
        delete = recording_service_pb2.DeleteRecordingRequest
        for identity in ("rec-1", "rec-2", "rec-3"):
            await suite.recordings.DeleteRecording(delete(name=f"{PARENT}/recordings/{identity}"))
        await suite.fetch(identity="rec-4")
        assert not (await suite.transcribe("rec-4")).reused


class Keys:
    """Lets one key of a tenant in."""

    async def authenticate(self, token):
        return Caller(CallerKind.API_KEY, tenant="acme", role=Role.MEMBER, subject="k1")


async def test_what_a_tenants_own_request_leaves_open_is_as_the_tenant_is_set_to(tmp_path):
    plan = TenantPlan(transcript_days=2, engine="own", phrases=("Cedar Lane",))

    async def plan_of(tenant):
        assert tenant == "acme"
        return plan

    preferred, own = TestEngine(), TestEngine()
    chain = {"test": preferred, "own": own}
    async with (
        serving(tmp_path, pace=QUICK, plan_of=plan_of, authenticator=Keys(), chain=chain) as suite,
        grpc.aio.insecure_channel(suite.server.address) as channel,
    ):
        await suite.fetch()
        stub = transcription_service_pb2_grpc.TranscriptionServiceStub(channel)
        key = (("authorization", "Bearer tl_key"),)
        create = pb.CreateTranscriptRequest(parent=PARENT, recording=one("rec-1").name)
        made = await stub.CreateTranscript(create, metadata=key)
        assert (preferred.calls, own.calls, own.phrases) == (0, 1, ("Cedar Lane",))
        assert made.expire_time.ToDatetime() > datetime.now() + timedelta(days=1)
        # A transcription that is started, alone or in a batch, is the same one.
        asking = Asking(suite)
        batch = pb.BatchTranscribeRecordingsRequest(parent=PARENT, requests=[one("rec-1")])
        started = await stub.TranscribeRecording(one("rec-1"), metadata=key)
        batched = (await stub.BatchTranscribeRecordings(batch, metadata=key)).results[0].operation
        for name in (started.name, batched):
            assert (await asking.transcript(await asking.wait(name))).name == made.name
        # What a request says itself counts, and a service's request is complete.
        create.generation, create.engine = 1, "test"
        create.phrases.append("Main Street")
        await stub.CreateTranscript(create, metadata=key)
        assert (preferred.calls, preferred.phrases) == (1, ("Main Street",))
        served = await suite.transcribe("rec-1", generation=2)
        assert (preferred.calls, preferred.phrases, own.calls) == (2, (), 1)
        assert not served.HasField("expire_time")
        create.expire_time.FromDatetime(datetime(2020, 1, 1))
        error = await failing(stub.CreateTranscript(create, metadata=key))
        assert error.message == "expire_time: must be in the future"
        create.ClearField("expire_time")
        # A tenant's engine that isn't there is named as the tenant's.
        plan = TenantPlan(engine="google")
        create.ClearField("engine")
        error = await failing(stub.CreateTranscript(create, metadata=key))
        assert error.reason == "ENGINE_UNKNOWN"
        assert error.message == "engine: the tenant's speech_settings.engine must be one of test, own"


async def test_an_unknown_engine_is_the_result_of_its_request_in_a_batch(tmp_path):
    async with serving(tmp_path, pace=QUICK) as suite:
        await suite.fetch()
        requests = [one("rec-1", engine="nobody"), one("rec-1")]
        batch = pb.BatchTranscribeRecordingsRequest(parent=PARENT, requests=requests)
        results = (await suite.transcripts.BatchTranscribeRecordings(batch)).results
        assert from_status(results[0].error).reason == "ENGINE_UNKNOWN"
        assert results[1].operation
