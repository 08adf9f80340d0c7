"""The service over real gRPC, with a provider on a real socket and an engine of the test's own."""

import asyncio
import contextlib
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import audio_bucket
import audio_sounds as sounds
import grpc
import numpy as np
import pytest
from audio_decoders import lent
from audio_provider import Answer, provider
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from trunkline.audio.v1 import admin_service_pb2, transcript_pb2
from trunkline.audio.v1 import recording_service_pb2 as recording_messages
from trunkline.audio.v1 import transcription_service_pb2 as transcription_messages
from trunkline.audio.v1.admin_service_pb2_grpc import AdminServiceStub
from trunkline.audio.v1.recording_service_pb2_grpc import RecordingServiceStub
from trunkline.audio.v1.transcription_service_pb2_grpc import TranscriptionServiceStub
from trunkline.common.v1 import audio_pb2
from trunkline_audio import app
from trunkline_audio.config import AudioConfig
from trunkline_audio.engines.base import EngineResult, Segment, SpeechCapabilities, Word
from trunkline_audio.media.blobs.base import BlobNotFound
from trunkline_audio.media.blobs.gcs import GcsBlobs
from trunkline_audio.media.blobs.settings import BlobSettings
from trunkline_audio.media.prepared import RecordingFault
from trunkline_audio.schema import metadata
from trunkline_audio.transcripts.task import TranscriptionTask, transcript_id
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.base import EngineError, EngineUsage
from trunkline_runtime.errors import Unavailable, from_rpc_error
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.rpc.channels import Channels, acting_for, unconfined
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_store.database import Database
from trunkline_store.testing.schema import differences

from tests.integration.migrated_file import migrated_file

PARENT = "tenants/acme"


class TestEngine:
    """Says what it was told to; waits at `gate` when there is one."""

    __test__ = False
    name = "test/1"
    problem = ""
    capabilities = SpeechCapabilities()

    def __init__(self):
        self.result = EngineResult(
            engine=self.name,
            language="en-US",
            lanes=2,
            speech_seconds=1.5,
            segments=(
                Segment(
                    0,
                    0,
                    0.25,
                    1.0,
                    "hello there",
                    (Word("hello", 0.25, 0.5, 0.8), Word("there", 0.5, 1.0, 0.6)),
                ),
                Segment(1, 0, 1.25, 2.0, "hi"),
            ),
        )
        self.calls = 0
        self.gate = None
        self.failure = None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def transcribe(self, recording):
        self.calls += 1
        self.language = recording.language
        self.phrases = recording.phrases
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.result


class Suite:
    def __init__(self, server, channels, engine, there, config):
        channel = channels.get(server.address)
        self.recordings = RecordingServiceStub(channel)
        self.transcripts = TranscriptionServiceStub(channel)
        self.channel = channel
        self.server = server
        self.engine = engine
        self.there = there
        self.db = None
        self.config = config

    async def fetch(self, path="/call.wav", identity="rec-1", parent=PARENT, **more):
        request = recording_messages.FetchRecordingRequest(
            parent=parent, recording_id=identity, url=self.there.url(path), **more
        )
        return await self.recordings.FetchRecording(request, timeout=30)

    async def transcribe(self, identity="rec-1", **more):
        request = transcription_messages.CreateTranscriptRequest(
            parent=PARENT, recording=f"{PARENT}/recordings/{identity}", **more
        )
        return await self.transcripts.CreateTranscript(request)


@contextlib.asynccontextmanager
async def serving(
    tmp_path,
    engine=None,
    forget=None,
    forget_transcript=None,
    pace=MACHINE,
    plan_of=None,
    authenticator=None,
    chain=None,
    clock=None,
    own_decoder=False,
    **settings,
):
    config = AudioConfig(
        **{
            "grpc_address": "127.0.0.1:0",
            "metrics_address": "",
            "store_url": await migrated_file(tmp_path / "audio.db", metadata, "trunkline_audio.migrations"),
            "keys": KEY_FOLDER,
            "blobs_folder": tmp_path / "blobs",
            "scratch_folder": tmp_path / "scratch",
            "decoders": 1,
            "drain_notice_seconds": 0.0,
            "fetch_allowed_networks": ("127.0.0.0/8",),
            **settings,
        }
    )
    engine = engine or TestEngine()
    async with (
        provider() as there,
        app.build(
            config,
            clock=clock,
            pace=pace,
            decoders=None if own_decoder else lent(),
            engines=chain or {"test": engine},
            forget=forget,
            forget_transcript=forget_transcript,
            plan_of=plan_of,
            authenticator=authenticator,
        ) as parts,
        parts.running() as server,
    ):
        channels = Channels(TokenSigner(KEY_FOLDER, "gateway"))
        try:
            there.answers["/call.wav"] = Answer(body=sounds.wav(sounds.tone(2), sounds.tone(2, hertz=600)))
            suite = Suite(server, channels, engine, there, config)
            suite.db = parts.db
            yield suite
        finally:
            await channels.close()


async def failing(call):
    with pytest.raises(grpc.RpcError) as failure:
        await call
    return from_rpc_error(failure.value)


async def test_a_recording_is_fetched_kept_and_described(tmp_path):
    async with serving(tmp_path) as suite:
        await asyncio.wait_for(suite.server.health.wait_serving(), 20)
        call = f"{PARENT}/calls/call-1"
        kept = await suite.fetch(call=call, headers={"Authorization": "Bearer x"})
        assert kept.name == "tenants/acme/recordings/rec-1"
        assert (kept.call, kept.format, kept.channels, kept.sample_rate_hertz) == (
            call,
            "wav/pcm_s16le",
            2,
            8000,
        )
        assert kept.duration.ToMilliseconds() == 2000
        assert suite.there.requests[0][1]["authorization"] == "Bearer x"
        (blob,) = (path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
        assert blob.stat().st_size == kept.size_bytes
        assert kept == await suite.recordings.GetRecording(
            recording_messages.GetRecordingRequest(name=kept.name)
        )


async def test_a_recording_is_fetched_once_whoever_asks_and_how_often(tmp_path):
    async with serving(tmp_path) as suite:
        kept = await asyncio.gather(*(suite.fetch() for _ in range(5)))
        again = await suite.fetch("/elsewhere.wav")
        assert all(one == again for one in kept)
        assert len(suite.there.requests) == 1


async def test_the_address_is_found_in_the_providers_answer_and_headers_stay_home(tmp_path):
    async with serving(tmp_path) as suite:
        there = suite.there
        there.answers["/recording.json"] = Answer(body=json.dumps({"url": "/call.wav"}).encode())
        await suite.fetch("/recording.json", "rec-1", url_field="url", headers={"X-Key": "k"})
        elsewhere = there.url("/call.wav", "localhost")
        there.answers["/other.json"] = Answer(body=json.dumps({"url": elsewhere}).encode())
        await suite.fetch("/other.json", "rec-2", url_field="url", headers={"X-Key": "k"})
        assert [headers.get("x-key") for _, headers in there.requests] == ["k", "k", "k", None]
        there.answers["/not-yet.json"] = Answer(body=b'{"url": null}')
        error = await failing(suite.fetch("/not-yet.json", "rec-3", url_field="url"))
        assert error.reason == "RECORDING_NOT_READY"


FAILURES = [
    (Answer(404), "UNAVAILABLE", "RECORDING_NOT_READY"),
    (Answer(429, headers={"Retry-After": "9"}), "UNAVAILABLE", "RECORDING_NOT_READY"),
    (Answer(500), "UNAVAILABLE", "RECORDING_UNREACHABLE"),
    (Answer(403), "FAILED_PRECONDITION", "RECORDING_FORBIDDEN"),
    (Answer(410), "FAILED_PRECONDITION", "RECORDING_GONE"),
    (Answer(body=b"x" * 2_000_000), "FAILED_PRECONDITION", "RECORDING_TOO_LARGE"),
    (Answer(body=b"<html>sign in</html>"), "FAILED_PRECONDITION", "NOT_AUDIO"),
]


@pytest.mark.parametrize(
    ("answer", "code", "reason"), FAILURES, ids=[f"{a.status}-{r}" for a, _, r in FAILURES]
)
async def test_not_yet_is_told_from_never_and_nothing_half_done_stays(tmp_path, answer, code, reason):
    async with serving(tmp_path, fetch_max_bytes=1_000_000) as suite:
        suite.there.answers["/call.wav"] = answer
        error = await failing(suite.fetch())
        assert (error.code.name, error.reason) == (code, reason)
        assert error.retry_after == (9 if answer.headers else None)
        assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
        suite.there.answers["/call.wav"] = Answer(body=sounds.wav(sounds.tone(1)))
        assert (await suite.fetch()).channels == 1


LOGIN = b"\n<!DOCTYPE html><title>Sign in</title>"


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (LOGIN, "text/html; charset=utf-8", "sent 38 bytes of text/html, a web page: probably a login"),
        (LOGIN, "audio/mpeg", "sent 38 bytes of audio/mpeg, a web page: probably a login"),
        (LOGIN, "", "of an unnamed type, a web page"),
        (b'{"error": "expired"}', "application/json", "a JSON document: probably an error"),
        (b"<?xml version='1.0'?><E/>", "text/xml", "an XML document: probably an error"),
        (
            b"no sound",
            "audio/mpeg",
            "damaged or incomplete, or has no header, as mu-law, A-law, and GSM files",
        ),
        (b"\xfe\x7d\x7e" * 99, "application/octet-stream", "then the source must set headerless_format"),
        (b"no sound", "text/plain", "the URL is probably not that of a recording"),
    ],
)
async def test_what_is_no_sound_is_told_with_its_type_and_the_likely_reason(
    tmp_path, body, content_type, said
):
    async with serving(tmp_path) as suite:
        headers = {"Content-Type": content_type} if content_type else {}
        suite.there.answers["/call.wav"] = Answer(body=body, headers=headers)
        error = await failing(suite.fetch())
        assert error.reason == "NOT_AUDIO", error.message
        assert said in error.message
        assert "expired" not in error.message


async def test_a_web_page_in_place_of_the_address_is_told_too(tmp_path):
    async with serving(tmp_path) as suite:
        suite.there.answers["/r.json"] = Answer(body=LOGIN, headers={"Content-Type": "text/html"})
        error = await failing(suite.fetch("/r.json", url_field="url"))
        assert error.reason == "RECORDING_BAD_ANSWER"
        assert "is not JSON: the provider sent 38 bytes of text/html, a web page" in error.message


async def test_a_download_that_trickles_is_told_before_the_caller_has_gone(tmp_path):
    async def trickle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.05)

    pace = Pace(intervals={"fetch.margin": 1.0})
    async with (
        serving(tmp_path, pace=pace) as suite,
        await asyncio.start_server(trickle, "127.0.0.1", 0) as server,
    ):
        suite.there.port = server.sockets[0].getsockname()[1]
        request = recording_messages.FetchRecordingRequest(
            parent=PARENT, recording_id="rec-1", url=suite.there.url("/slow.wav")
        )
        error = await failing(suite.recordings.FetchRecording(request, timeout=2.5))
        assert (error.code.name, error.reason) == ("UNAVAILABLE", "RECORDING_UNREACHABLE")
        assert re.search(r"of 1000 bytes in [01]\.\d s", error.message), error.message


async def test_a_recording_that_is_cut_is_not_kept_until_whatever_comes_is_wanted(tmp_path):
    async with serving(tmp_path) as suite:
        suite.there.answers["/call.wav"] = Answer(body=sounds.wav(sounds.tone(2.5)))
        error = await failing(suite.fetch(least_duration={"seconds": 14}))
        assert (error.code.name, error.reason) == ("UNAVAILABLE", "RECORDING_TRUNCATED")
        assert "2.5 s of sound" in error.message
        assert "at least 14.0 s" in error.message
        assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
        suite.there.answers["/call.wav"] = Answer(body=sounds.wav(sounds.tone(15)))
        assert (await suite.fetch(least_duration={"seconds": 14})).duration.seconds == 15
        suite.there.answers["/call.wav"] = Answer(body=sounds.wav(sounds.tone(2.5)))
        assert (await suite.fetch(identity="rec-2")).duration.seconds == 2


class Listening(TestEngine):
    """Has the recording decoded, and keeps how long it was."""

    async def transcribe(self, recording):
        async with recording.prepared() as audio:
            self.heard = audio.seconds
        return await super().transcribe(recording)


async def test_bytes_without_a_header_are_what_the_request_says_also_when_they_are_transcribed(tmp_path):
    engine = Listening()
    async with serving(tmp_path, engine=engine) as suite:
        body = np.random.default_rng(1).integers(0, 255, 24_000, dtype=np.uint8).tobytes()
        suite.there.answers["/call.wav"] = Answer(body=body)
        assert (await failing(suite.fetch())).reason == "NOT_AUDIO"
        kept = await suite.fetch(headerless_format=audio_pb2.HEADERLESS_FORMAT_ALAW)
        assert (kept.format, kept.channels, kept.sample_rate_hertz) == ("alaw/pcm_alaw", 1, 8000)
        assert kept.duration.ToMilliseconds() == 3000
        await suite.transcribe()
        assert engine.heard == 3


async def test_a_header_without_samples_is_kept_as_a_recording_of_no_length(tmp_path):
    engine = Listening()
    async with serving(tmp_path, engine=engine) as suite:
        suite.there.answers["/call.wav"] = Answer(body=sounds.wav(sounds.tone(0)))
        kept = await suite.fetch()
        assert (kept.channels, kept.sample_rate_hertz, kept.duration.ToMilliseconds()) == (1, 8000, 0)
        await suite.transcribe()
        assert engine.heard == 0


async def test_a_file_of_a_message_is_kept_as_it_comes(tmp_path):
    async with serving(tmp_path) as suite:
        suite.there.answers["/a.jpg"] = Answer(
            body=b"\xff\xd8no sound", headers={"Content-Type": "Image/JPEG; x=1"}
        )
        kept = await suite.fetch("/a.jpg", "rec-9", attachment=True)
        assert (kept.format, kept.size_bytes, kept.channels) == ("image/jpeg", 10, 0)
        suite.there.answers.clear()
        assert await suite.fetch("/a.jpg", "rec-9", attachment=True) == kept, "create or get"


async def test_private_networks_are_refused_unless_they_are_named(tmp_path):
    async with serving(tmp_path, fetch_allowed_networks=()) as suite:
        error = await failing(suite.fetch())
        assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "ADDRESS_REFUSED")
        assert suite.there.requests == []


async def test_the_url_and_its_headers_are_stored_nowhere(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch("/call.wav?key=topsecret", headers={"Authorization": "topsecret"})
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"rec-1" in held
    assert b"topsecret" not in held


async def test_a_transcript_has_speakers_by_channel_times_and_confidence(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        made = await suite.transcribe()
        assert made.recording == "tenants/acme/recordings/rec-1"
        assert (made.language, made.engine, made.speakers, made.channels) == ("en-US", "test/1", 2, 2)
        assert [item.speaker for item in made.segments] == [
            transcript_pb2.SPEAKER_AGENT,
            transcript_pb2.SPEAKER_CUSTOMER,
        ]
        first = made.segments[0]
        assert (first.text, first.start_offset.ToMilliseconds(), first.end_offset.ToMilliseconds()) == (
            "hello there",
            250,
            1000,
        )
        assert first.words[0].confidence == pytest.approx(0.8)
        assert made.confidence == pytest.approx(0.7)
        assert (made.duration.ToMilliseconds(), made.speech_duration.ToMilliseconds()) == (2000, 1500)
        assert not made.unreliable
        request = transcription_messages.GetTranscriptRequest(name=made.name)
        assert await suite.transcripts.GetTranscript(request) == made


async def test_roles_voices_and_unreliable_answers_are_passed_on(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        roles = [transcript_pb2.SPEAKER_CUSTOMER, transcript_pb2.SPEAKER_AGENT]
        made = await suite.transcribe(channel_speakers=roles)
        assert [item.speaker for item in made.segments] == roles
        whole = suite.engine.result
        suite.engine.result = replace(whole, segments=whole.segments[1:])
        made = await suite.transcribe(channel_speakers=roles, generation=1)
        assert [item.speaker for item in made.segments] == roles[1:], "the first channel is silent"
        suite.engine.result = EngineResult(
            engine="test/1",
            language="es",
            lanes=1,
            unreliable="low_confidence",
            segments=(Segment(0, 2, 0, 1, "a"), Segment(0, 0, 1, 2, "b"), Segment(0, 3, 2, 3, "c")),
        )
        made = await suite.transcribe(language="es")
        assert [item.speaker for item in made.segments] == [
            transcript_pb2.SPEAKER_VOICE_2,
            transcript_pb2.SPEAKER_UNSPECIFIED,
            transcript_pb2.SPEAKER_VOICE_3,
        ]
        assert (made.unreliable, made.unreliable_reason, suite.engine.language) == (
            True,
            "low_confidence",
            "es",
        )


async def test_a_language_that_is_heard_overrules_the_one_that_was_asked_for_and_is_told(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        suite.engine.result = EngineResult(
            engine="test/1",
            language="es",
            language_confidence=0.875,
            overruled_language="en-US",
            segments=(Segment(0, 1, 0, 1, "hola"),),
        )
        with capture_logs() as logged:
            made = await suite.transcribe(language="en-US")
        (line,) = (line for line in logged if line["event"] == "transcribed")
        assert line["language"] == "es"
        told = (made.language, made.language_confidence, made.overruled_language, made.unreliable)
        assert told == ("es", 0.875, "en-US", False)
        request = transcription_messages.GetTranscriptRequest(name=made.name)
        assert await suite.transcripts.GetTranscript(request) == made
        page = transcription_messages.ListTranscriptsRequest(parent=PARENT)
        (listed,) = (await suite.transcripts.ListTranscripts(page)).transcripts
        assert (listed.language_confidence, listed.overruled_language) == (0.875, "en-US")


async def test_an_english_rendering_is_marked_with_the_language_that_was_spoken(tmp_path):
    async with serving(tmp_path) as suite:
        suite.engine.result = EngineResult(
            engine="test/1", language="en", translated_from="es", segments=(Segment(0, 1, 0, 1, "hello"),)
        )
        for recording in ("rec-1", "rec-2"):  # the second takes the words over, and the mark with them
            await suite.fetch(identity=recording)
            made = await suite.transcribe(recording)
            assert (made.language, made.translated_from) == ("en", "es")
        assert suite.engine.calls == 1
        page = transcription_messages.ListTranscriptsRequest(parent=PARENT)
        listed = (await suite.transcripts.ListTranscripts(page)).transcripts
        assert [one.translated_from for one in listed] == ["es", "es"]


async def test_without_a_language_the_engine_is_asked_to_detect_it(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        made = await suite.transcribe()
        assert suite.engine.language == ""
        assert (await suite.transcribe()).name == made.name
        assert suite.engine.calls == 1
        assert (await suite.transcribe(language="en-US")).name != made.name
        assert suite.engine.language == "en-US"


def test_the_ids_of_transcripts_are_the_same_in_every_version():
    for language, identity in (
        ("", "6yub3bzeyje44w3tlhghgyz4zeuhljsc"),
        ("en-US", "hy6d3twi2f7le6owpoixrr52u4gqlqr6"),
        ("EN-us", "hy6d3twi2f7le6owpoixrr52u4gqlqr6"),
    ):
        assert transcript_id(TranscriptionTask("acme", "rec-1", language), "0" * 64) == identity


async def test_a_transcript_is_made_once_and_again_for_a_new_generation(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        wanted = [suite.transcribe(language="en-US") for _ in range(4)]
        names = {made.name for made in await asyncio.gather(*wanted)}
        assert (len(names), suite.engine.calls) == (1, 1)
        assert (await suite.transcribe(language="EN-us")).name in names
        assert suite.engine.calls == 1
        assert (await suite.transcribe(language="en-US", generation=1)).name not in names
        assert suite.engine.calls == 2


async def test_above_its_bound_the_service_says_when_to_come_back(tmp_path):
    async with serving(tmp_path, transcriptions_at_once=1) as suite:
        await suite.fetch(identity="rec-1")
        suite.there.answers["/other.wav"] = Answer(body=sounds.wav(sounds.tone(1)))
        await suite.fetch("/other.wav", "rec-2")
        suite.engine.gate = asyncio.Event()
        first = asyncio.ensure_future(suite.transcribe("rec-1"))
        joined = asyncio.ensure_future(suite.transcribe("rec-1"))
        while suite.engine.calls == 0:
            await asyncio.sleep(0.005)
        error = await failing(suite.transcribe("rec-2"))
        assert (error.code.name, error.reason) == ("RESOURCE_EXHAUSTED", "ENGINES_BUSY")
        assert error.retry_after >= 1
        suite.engine.gate.set()
        assert (await first).name == (await joined).name
        assert (await suite.transcribe("rec-2")).recording.endswith("rec-2")


async def test_work_goes_on_when_its_asker_gives_up(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        suite.engine.gate = asyncio.Event()
        asker = asyncio.ensure_future(suite.transcribe())
        while suite.engine.calls == 0:
            await asyncio.sleep(0.005)
        asker.cancel()
        suite.engine.gate.set()
        await suite.transcribe()
        assert suite.engine.calls == 1


async def test_one_tenant_leaves_places_to_others(tmp_path):
    async with serving(tmp_path, transcriptions_at_once=4) as suite:
        suite.engine.gate = asyncio.Event()
        for number in range(4):
            there = sounds.wav(sounds.tone(1, hertz=300 + 50 * number))
            suite.there.answers[f"/{number}.wav"] = Answer(body=there)
            await suite.fetch(f"/{number}.wav", f"rec-{number}")
        askers = [asyncio.ensure_future(suite.transcribe(f"rec-{number}")) for number in range(3)]
        while suite.engine.calls < 3:
            await asyncio.sleep(0.005)
        error = await failing(suite.transcribe("rec-3"))
        assert (error.code.name, error.reason) == ("RESOURCE_EXHAUSTED", "ENGINES_BUSY")
        assert 0 < error.retry_after <= 30
        suite.engine.gate.set()
        await asyncio.gather(*askers)


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (EngineError("WORKER_DIED", "the speech process died", transient=True), "ABORTED", "WORKER_DIED"),
        (
            RecordingFault("NOT_AUDIO", "no audio", transient=False),
            "FAILED_PRECONDITION",
            "RECORDING_UNREADABLE",
        ),
    ],
)
async def test_an_engine_that_fails_says_whether_to_try_again_and_keeps_nothing(
    tmp_path, failure, code, reason
):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        suite.engine.failure = failure
        error = await failing(suite.transcribe())
        assert (error.code.name, error.reason) == (code, reason)
        suite.engine.failure = None
        assert (await suite.transcribe()).segments


async def test_a_model_that_is_missing_is_told_with_the_command_that_fetches_it(tmp_path):
    command = "`python -m trunkline_audio.models fetch base`"
    async with serving(tmp_path) as suite:
        await suite.fetch()
        suite.engine.failure = EngineError(
            "ENGINE_NOT_READY", f"no model: {command} fetches it", transient=True
        )
        error = await failing(suite.transcribe())
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_NOT_READY")
        assert command in str(error)
        assert error.retry_after is not None


async def test_the_service_serves_without_its_engine_and_tells_why_it_is_not_ready(tmp_path):
    engine = TestEngine()
    engine.problem = "its model is missing"
    names = ("", "trunkline.audio.v1.RecordingService", "trunkline.audio.v1.TranscriptionService")

    def shown():
        return REGISTRY.get_sample_value("trunkline_engine_ready", {"engine": engine.name})

    async with serving(tmp_path, engine=engine) as suite:
        await asyncio.wait_for(suite.server.health.wait_serving(), 20)
        async with grpc.aio.insecure_channel(suite.server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            asked = [await health.Check(health_pb2.HealthCheckRequest(service=name)) for name in names]
        assert {one.status for one in asked} == {health_pb2.HealthCheckResponse.SERVING}
        assert suite.server.health.told() == (True, "ok\nengine test/1: its model is missing")
        assert shown() == 0
        assert (await suite.fetch()).channels == 2
        engine.problem = ""
        assert suite.server.health.told() == (True, "ok")
        assert shown() == 1
    assert shown() is None


async def test_a_recording_longer_than_the_engine_takes_is_refused_before_it_is_asked(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        suite.engine.capabilities = SpeechCapabilities(longest_seconds=1)
        error = await failing(suite.transcribe())
        assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "RECORDING_TOO_LONG")
        assert "2 s of sound, and test/1 takes at most 1 s" in error.message
        assert suite.engine.calls == 0


async def test_what_an_answer_took_and_cost_is_counted_once_for_the_engine_that_gave_it(tmp_path):
    def counted():
        return [
            REGISTRY.get_sample_value(f"trunkline_engine_{name}_total", {"engine": "paid/2"}) or 0.0
            for name in ("audio_seconds", "cost_micros")
        ]

    async with serving(tmp_path) as suite:
        await suite.fetch()
        usage = EngineUsage(audio_seconds=15, cost_micros=4_000)
        suite.engine.result = EngineResult(engine="paid/2", language="en", usage=usage)
        made = await suite.transcribe()
        assert (made.engine, made.usage.audio_duration.seconds, made.usage.cost_micros) == (
            "paid/2",
            15,
            4_000,
        )
        assert await suite.transcribe() == made
        page = transcription_messages.ListTranscriptsRequest(parent=PARENT)
        (listed,) = (await suite.transcripts.ListTranscripts(page)).transcripts
        assert not listed.HasField("usage")
        assert counted() == [15, 4_000]


async def test_a_decoder_that_is_killed_costs_nothing_but_a_moment(tmp_path):
    async with serving(tmp_path, own_decoder=True) as suite:
        await suite.fetch(identity="rec-1")
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        decoders = [
            pid for pid in children if b"prepare:handler" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert decoders
        for pid in decoders:
            os.kill(int(pid), signal.SIGKILL)
        assert (await suite.fetch(identity="rec-2")).channels == 2


async def test_what_is_not_there_is_not_found(tmp_path):
    async with serving(tmp_path) as suite:
        get = recording_messages.GetRecordingRequest(name=f"{PARENT}/recordings/none")
        delete = recording_messages.DeleteRecordingRequest(name=f"{PARENT}/recordings/none")
        words = transcription_messages.GetTranscriptRequest(name=f"{PARENT}/transcripts/none")
        for call in (
            suite.recordings.GetRecording(get),
            suite.recordings.DeleteRecording(delete),
            suite.transcripts.GetTranscript(words),
            suite.transcribe("none"),
        ):
            assert (await failing(call)).code is grpc.StatusCode.NOT_FOUND


async def test_one_tenant_never_sees_anothers(tmp_path):
    async with serving(tmp_path) as suite:
        kept = await suite.fetch()
        await suite.fetch(parent="tenants/other")
        request = recording_messages.GetRecordingRequest(name=kept.name)
        with acting_for("other"):
            assert (await failing(suite.recordings.GetRecording(request))).code is grpc.StatusCode.NOT_FOUND
        foreign = transcription_messages.CreateTranscriptRequest(parent="tenants/other", recording=kept.name)
        error = await failing(suite.transcripts.CreateTranscript(foreign))
        assert error.code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
        listed = await suite.recordings.ListRecordings(
            recording_messages.ListRecordingsRequest(parent="tenants/other")
        )
        assert [item.name for item in listed.recordings] == ["tenants/other/recordings/rec-1"]


async def test_lists_come_in_pages_the_latest_first(tmp_path):
    async with serving(tmp_path) as suite:
        for number in range(5):
            await suite.fetch(identity=f"rec-{number}")
            await suite.transcribe(f"rec-{number}")
        seen, token, sizes = [], "", []
        while True:
            page = await suite.recordings.ListRecordings(
                recording_messages.ListRecordingsRequest(parent=PARENT, page_size=2, page_token=token)
            )
            seen += [item.name.rpartition("/")[2] for item in page.recordings]
            sizes.append(len(page.recordings))
            token = page.next_page_token
            if not token:
                break
        assert seen == [f"rec-{number}" for number in (4, 3, 2, 1, 0)]
        assert sizes == [2, 2, 1]
        listed = await suite.transcripts.ListTranscripts(
            transcription_messages.ListTranscriptsRequest(parent=PARENT, page_size=3)
        )
        assert [item.recording[-5:] for item in listed.transcripts] == ["rec-4", "rec-3", "rec-2"]
        assert not any(item.segments for item in listed.transcripts)
        wrong = recording_messages.ListRecordingsRequest(parent=PARENT, page_token=listed.next_page_token)
        assert (
            await failing(suite.recordings.ListRecordings(wrong))
        ).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_deleting_a_recording_deletes_its_bytes_and_its_transcripts(tmp_path):
    async with serving(tmp_path) as suite:
        kept = await suite.fetch()
        made = await suite.transcribe()
        await suite.recordings.DeleteRecording(recording_messages.DeleteRecordingRequest(name=kept.name))
        request = transcription_messages.GetTranscriptRequest(name=made.name)
        assert (await failing(suite.transcripts.GetTranscript(request))).code is grpc.StatusCode.NOT_FOUND
        assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_a_recording_that_was_deleted_on_request_is_not_fetched_again(tmp_path):
    async with serving(tmp_path) as suite:
        kept = await suite.fetch()
        await suite.recordings.DeleteRecording(recording_messages.DeleteRecordingRequest(name=kept.name))
        fetched = len(suite.there.requests)
        error = await failing(suite.fetch())
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RECORDING_DELETED")
        assert len(suite.there.requests) == fetched
        assert (await suite.fetch(identity="rec-2")).name != kept.name


async def test_a_deleted_transcript_is_not_made_again_and_its_call_is_told_before(tmp_path):
    told, failures = [], [Unavailable("not now")]

    async def forget(call, transcript):
        told.append((call, transcript))
        if failures:
            raise failures.pop()

    async with serving(tmp_path, forget_transcript=forget) as suite:
        await suite.fetch(call=f"{PARENT}/calls/call-1")
        made = await suite.transcribe()
        request = transcription_messages.DeleteTranscriptRequest(name=made.name)
        assert (
            await failing(suite.transcripts.DeleteTranscript(request))
        ).code is grpc.StatusCode.UNAVAILABLE
        shown = transcription_messages.GetTranscriptRequest(name=made.name)
        assert await suite.transcripts.GetTranscript(shown) == made, "nothing was deleted"
        await suite.transcripts.DeleteTranscript(request)
        assert told == [(f"{PARENT}/calls/call-1", made.name)] * 2
        assert (await failing(suite.transcripts.GetTranscript(shown))).code is grpc.StatusCode.NOT_FOUND
        assert (await failing(suite.transcripts.DeleteTranscript(request))).code is grpc.StatusCode.NOT_FOUND
        calls = suite.engine.calls
        error = await failing(suite.transcribe())
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TRANSCRIPT_DELETED")
        assert suite.engine.calls == calls, "nothing was paid for"
        assert (await suite.transcribe(generation=1)).name != made.name


async def test_recordings_lie_in_a_bucket_from_the_fetch_to_the_deletion(tmp_path, monkeypatch):
    with audio_bucket.served(tmp_path) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        wrong = BlobSettings(bucket="gs://no-such-bucket")
        async with serving(tmp_path, blobs=wrong) as suite:
            error = await failing(suite.fetch())
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "BLOBS_REFUSED")
            assert "there is no bucket no-such-bucket" in error.message
        right = BlobSettings(bucket=f"gs://{audio_bucket.BUCKET}/suite")
        async with serving(tmp_path, blobs=right) as suite:
            kept = await suite.fetch()
            assert kept.duration.ToMilliseconds() == 2000
        async with serving(tmp_path, blobs=right) as suite:  # nothing of it is on this machine
            assert not (tmp_path / "blobs").exists()
            made = await suite.transcribe()
            assert [segment.text for segment in made.segments] == ["hello there", "hi"]
            async with GcsBlobs(right, tmp_path / "aside") as blobs:
                assert await blobs.size("t.acme/r.rec-1") == kept.size_bytes
                await suite.recordings.DeleteRecording(
                    recording_messages.DeleteRecordingRequest(name=kept.name)
                )
                with pytest.raises(BlobNotFound):
                    await blobs.size("t.acme/r.rec-1")
            scratch = tmp_path / "scratch" / "blobs"
            assert not list(scratch.iterdir())


async def test_a_call_forgets_its_recording_before_that_is_deleted(tmp_path):
    told, failures = [], [Unavailable("not now")]

    async def forget(call, recording, transcript_stays):
        told.append((call, recording, transcript_stays))
        if failures:
            raise failures.pop()

    async with serving(tmp_path, forget=forget) as suite:
        kept = await suite.fetch(call=f"{PARENT}/calls/call-1")
        request = recording_messages.DeleteRecordingRequest(name=kept.name)
        assert (await failing(suite.recordings.DeleteRecording(request))).code is grpc.StatusCode.UNAVAILABLE
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()], "nothing was deleted"
        await suite.recordings.DeleteRecording(request)
        assert told == [(f"{PARENT}/calls/call-1", kept.name, False)] * 2
        assert (await failing(suite.recordings.DeleteRecording(request))).code is grpc.StatusCode.NOT_FOUND


async def test_what_was_kept_is_there_after_a_restart(tmp_path):
    async with serving(tmp_path) as suite:
        await suite.fetch()
        made = await suite.transcribe()
    (tmp_path / "scratch").mkdir(exist_ok=True)
    (tmp_path / "scratch" / "left.0").write_bytes(b"from a killed run")
    async with serving(tmp_path) as suite:
        assert await suite.transcribe() == made
        assert (suite.engine.calls, suite.there.requests) == (0, [])
        assert not (tmp_path / "scratch" / "left.0").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fetch_allowed_networks": ("10.0.0.0/99",)}, "FETCH_ALLOWED_NETWORKS"),
        ({"engines": ("none",)}, "allowed are google, whisper"),
    ],
)
async def test_wrong_settings_are_told_by_name(tmp_path, settings, told):
    config = AudioConfig(keys=KEY_FOLDER, store_url=f"sqlite:///{tmp_path}/audio.db", **settings)
    with pytest.raises(ConfigError, match=told):
        await app.serve(config)


async def test_the_migrations_make_the_declared_tables(tmp_path):
    package = "trunkline_audio.migrations"
    async with await Database.open(f"sqlite:///{tmp_path}/audio.db", metadata, migrations=package) as db:
        assert await db.read(lambda conn: differences(conn, metadata)) == []


async def test_recordings_beyond_a_tenants_quota_are_refused_by_name_and_counted(tmp_path):
    async with serving(tmp_path) as suite:
        await asyncio.wait_for(suite.server.health.wait_serving(), 20)
        kept = await suite.fetch(quota_bytes=100_000)
        assert await suite.fetch("/second.wav", quota_bytes=1) == kept, "what is there is shown"
        error = await failing(suite.fetch(identity="rec-2", quota_bytes=kept.size_bytes))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (error.reason, error.retry_after) == ("RECORDINGS_QUOTA", 900.0)
        await suite.fetch(identity="rec-2", quota_bytes=kept.size_bytes + 1)
        error = await failing(suite.fetch(identity="rec-3", quota_bytes=2 * kept.size_bytes))
        assert error.reason == "RECORDINGS_QUOTA", "counted between two counts as well"
        await suite.fetch(identity="rec-1", parent="tenants/globex", quota_bytes=1)
        await suite.fetch(identity="rec-3")
        with unconfined():
            request = admin_service_pb2.CountTenantRequest(name=PARENT)
            counted = await AdminServiceStub(suite.channel).CountTenant(request)
        assert counted.recordings_bytes == 3 * kept.size_bytes
