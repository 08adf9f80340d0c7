"""A transcription that takes long, over real gRPC: how far it is, that it stops, and that nothing is done twice."""

import asyncio
import contextlib
import shutil
import sqlite3

import audio_sounds as sounds
import numpy as np
from audio_provider import Answer
from test_audio_chain import Named
from test_audio_operations import Asking, Later, begun, held
from test_audio_service import PARENT, serving
from trunkline.audio.v1 import admin_service_pb2_grpc, recording_service_pb2
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline.common.v1 import purge_pb2
from trunkline_audio.engines.base import SpeechCapabilities, Submission
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors.wire import from_status
from trunkline_runtime.process.pace import Pace

from tests.standins.submitting_audio import MinuteEngine
from tests.standins.window_audio import WindowEngine

QUICK = Pace(
    intervals={
        "operations.look": 0.05,
        "checkpoints.write": 0.01,
        "submissions.poll": 0.01,
        "watch.look": 0.05,
    }
)
SECONDS = 6


class Minutes(MinuteEngine):
    """Hears what it was submitted, a minute a question, and counts what it is asked."""

    capabilities = SpeechCapabilities(longest_seconds=2.0, submits=True)

    def __init__(self, submitted=None):
        super().__init__()
        self.submitted = {} if submitted is None else submitted
        self.asked = []
        self.calls = 0
        self.goes_on = asyncio.Event()
        self.cancelled = []

    async def submit(self, recording):
        self.asked.append("submit")
        self.calls += 1
        return await super().submit(recording)

    async def poll(self, submission):
        if submission in self.submitted and not self.goes_on.is_set():
            self.asked.append("poll")
            return Submission(1.0)
        return await super().poll(submission)

    async def cancel(self, submission):
        self.cancelled.append(submission)
        await super().cancel(submission)


@contextlib.asynccontextmanager
async def long_serving(folder, engine, **more):
    async with serving(folder, engine, pace=QUICK, **more) as suite:
        suite.there.answers["/long.wav"] = Answer(body=sounds.wav(sounds.tone(SECONDS)))
        yield suite, Asking(suite)


async def until(found, *args):
    """What a look gives, once it gives something."""
    async with asyncio.timeout(20):
        while not (value := await found(*args)):
            await asyncio.sleep(0.01)
        return value


async def reached(asking, name):
    operation = await asking.get(name)
    told = pb.TranscribeRecordingMetadata()
    assert operation.metadata.Unpack(told)
    return told.transcribed_duration.ToMilliseconds() / 1000, told.total_duration.ToMilliseconds() / 1000


async def has_reached(asking, name, seconds):
    return (await reached(asking, name))[0] >= seconds


def count(folder):
    with contextlib.closing(sqlite3.connect(folder / "audio.db")) as conn:
        return conn.execute("SELECT count(*) FROM checkpoints").fetchone()[0]


def goes(engine, windows):
    for _ in range(windows):
        engine.open.release()


async def test_it_tells_how_many_seconds_of_the_recording_are_done(tmp_path):
    engine = WindowEngine()
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        goes(engine, 2)
        await until(has_reached, asking, made.name, 2)
        assert await reached(asking, made.name) == (2, SECONDS)
        goes(engine, 4)
        done = await asking.wait(made.name)
        assert (await asking.transcript(done)).segments[5].text == "word-5"
        assert await reached(asking, made.name) == (SECONDS, SECONDS)


async def test_a_stopped_service_takes_up_what_was_finished(tmp_path):
    first, second = WindowEngine(), WindowEngine()
    async with long_serving(tmp_path, first) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        goes(first, 3)
        await until(has_reached, asking, made.name, 3)
    async with long_serving(tmp_path, second) as (_, asking):
        goes(second, 3)
        done = await asking.wait(made.name)
        heard = [segment.text for segment in (await asking.transcript(done)).segments]
    assert (first.listened, second.listened) == ([0, 1, 2], [3, 4, 5])
    assert heard == [f"word-{number}" for number in range(SECONDS)]


async def test_a_service_that_is_killed_again_and_again_ends_it_as_long_as_it_gets_on(tmp_path):
    folder = tmp_path / "0"
    folder.mkdir()
    listened, name = [], ""
    for kill in range(4):
        engine, after = WindowEngine(), tmp_path / str(kill + 1)
        async with long_serving(folder, engine, clock=Later(kill)) as (suite, asking):
            if not name:
                await suite.fetch("/long.wav")
                name = (await asking.start()).name
            goes(engine, 1)
            await until(has_reached, asking, name, kill + 1)
            shutil.copytree(folder, after)
        listened += engine.listened
        folder = after
    engine = WindowEngine()
    async with long_serving(folder, engine, clock=Later(kill + 1)) as (_, asking):
        goes(engine, 2)
        assert (await asking.wait(name)).HasField("response")
    assert listened + engine.listened == list(range(SECONDS))


async def test_cancelling_stops_the_engine_and_a_repeated_request_takes_up_what_was_finished(tmp_path):
    engine = WindowEngine()
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start(request_id="q")
        goes(engine, 2)
        await until(has_reached, asking, made.name, 2)
        await asking.cancel(made.name)
        async with asyncio.timeout(20):
            while engine.under_way:
                await asyncio.sleep(0.01)
        goes(engine, 10)
        assert engine.listened == [0, 1]
        assert (await asking.start(request_id="q")).name == made.name
        assert (await asking.wait(made.name)).HasField("response")
        assert engine.listened == list(range(SECONDS))


async def test_cancelling_leaves_it_to_a_caller_who_waits_for_the_same_transcript(tmp_path):
    engine = WindowEngine()
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        goes(engine, 1)
        await until(has_reached, asking, made.name, 1)
        waiting = asyncio.create_task(suite.transcribe())
        await asyncio.sleep(0.1)
        await asking.cancel(made.name)
        await asyncio.sleep(0.2)
        goes(engine, 5)
        assert len((await waiting).segments) == SECONDS


async def test_what_was_finished_goes_with_the_operation_the_recording_and_the_tenant(tmp_path):
    async def finished(suite, asking, recording):
        await suite.fetch("/long.wav", recording)
        engine = suite.engine
        made = await asking.start(f"{PARENT}/recordings/{recording}")
        goes(engine, 1)
        await until(has_reached, asking, made.name, 1)
        assert count(tmp_path) == 1
        return made.name

    async with long_serving(tmp_path, WindowEngine()) as (suite, asking):
        name = await finished(suite, asking, "rec-1")
        await asking.cancel(name)
        assert count(tmp_path) == 1, "whoever starts it again takes it up"
        await asking.delete(name)
        assert count(tmp_path) == 0
        name = await finished(suite, asking, "rec-2")
        request = recording_service_pb2.DeleteRecordingRequest(name=f"{PARENT}/recordings/rec-2")
        await suite.recordings.DeleteRecording(request)
        assert count(tmp_path) == 0
        goes(suite.engine, 5)
        assert from_status((await asking.wait(name)).error).code.name == "NOT_FOUND"
        assert count(tmp_path) == 0
        await finished(suite, asking, "rec-3")
        admin = admin_service_pb2_grpc.AdminServiceStub(suite.channel)
        await admin.PurgeTenant(purge_pb2.PurgeTenantRequest(name=PARENT))
        assert count(tmp_path) == 0


async def test_what_was_finished_goes_with_the_transcript(tmp_path):
    async def nobody(_call, _transcript):
        """Nobody is told."""

    async with long_serving(tmp_path, WindowEngine(), forget_transcript=nobody) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        goes(suite.engine, SECONDS)
        transcript = await asking.transcript(await asking.wait(made.name))
        assert count(tmp_path), "for watchers that come back"
        await suite.transcripts.DeleteTranscript(pb.DeleteTranscriptRequest(name=transcript.name))
        assert count(tmp_path) == 0


async def test_what_an_engine_submitted_is_asked_about_again_after_a_restart(tmp_path):
    first = Minutes()
    async with long_serving(tmp_path, first) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        await until(has_reached, asking, made.name, 1)
    assert first.asked.count("submit") == 1
    assert not first.cancelled
    second = Minutes(first.submitted)
    async with long_serving(tmp_path, second) as (_, asking):
        second.goes_on.set()
        done = await asking.wait(made.name)
        assert (await asking.transcript(done)).segments[0].text == "minute"
    assert "submit" not in second.asked


async def test_cancelling_has_the_provider_give_it_up(tmp_path):
    engine = Minutes()
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start(request_id="q")
        await until(has_reached, asking, made.name, 1)
        await asking.cancel(made.name)
        assert len(set(engine.cancelled)) == 1, "one submission, though whoever sees it cancelled may say so"
        assert not engine.submitted
        engine.goes_on.set()
        await asking.start(request_id="q")
        assert (await asking.wait(made.name)).HasField("response")
        assert engine.asked.count("submit") == 2


async def test_cancelling_while_it_is_submitted_has_the_provider_give_it_up(tmp_path):
    engine, entered, gate = Minutes(), asyncio.Event(), asyncio.Event()
    submit = engine.submit

    async def slowly(recording):
        entered.set()
        await gate.wait()
        return await submit(recording)

    engine.submit = slowly
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        await entered.wait()
        await asking.cancel(made.name)
        await asyncio.sleep(0.1)
        gate.set()
        async with asyncio.timeout(10):
            while not engine.cancelled:
                await asyncio.sleep(0.01)
        assert not engine.submitted


async def test_a_submission_that_is_gone_ends_it_and_is_made_again_on_request(tmp_path):
    engine = Minutes()
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start(request_id="q")
        await until(has_reached, asking, made.name, 1)
        engine.submitted.clear()
        assert from_status((await asking.wait(made.name)).error).reason == "RECORDING_UNREADABLE"
        engine.goes_on.set()
        await asking.start(request_id="q")
        assert (await asking.wait(made.name)).HasField("response")


async def test_a_submission_that_fails_is_given_up(tmp_path):
    """Of several files that were handed over the others would go on, and be paid for."""
    engine = Minutes()
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        await until(has_reached, asking, made.name, 1)
        (name,) = engine.submitted

        async def refusing(submission):
            raise EngineError("ENGINE_INVALID_ARGUMENT", "no", transient=False)

        engine.poll = refusing
        assert (await asking.wait(made.name)).HasField("error")
        assert engine.cancelled == [name]


async def test_a_long_degraded_transcript_is_made_again_by_the_provider_also_over_a_restart(tmp_path):
    def pair(better):
        return {"better": better, "lesser": Named("lesser")}

    async def degraded(suite):
        return (
            await suite.transcripts.ListTranscripts(pb.ListTranscriptsRequest(parent=PARENT))
        ).transcripts[0]

    more = {"degraded_retry_seconds": 0.1, "engine_failures": 1000}
    first = Minutes()
    first.problem = "Google is away"
    pace = Pace(intervals={"tasks.look": 0.05, "submissions.poll": 0.01, "operations.look": 0.05})
    async with serving(tmp_path, chain=pair(first), pace=pace, **more) as suite:
        suite.there.answers["/long.wav"] = Answer(body=sounds.wav(sounds.tone(SECONDS)))
        await suite.fetch("/long.wav")
        asking = Asking(suite)
        await asking.wait((await asking.start()).name)
        assert (await degraded(suite)).wanted_engine == "better"
        first.problem = ""
        async with asyncio.timeout(20):
            while "poll" not in first.asked:
                await asyncio.sleep(0.01)
        assert (await degraded(suite)).degraded
    second = Minutes(first.submitted)
    second.goes_on.set()
    async with serving(tmp_path, chain=pair(second), pace=pace, **more) as suite:
        async with asyncio.timeout(20):
            while (await degraded(suite)).degraded:
                await asyncio.sleep(0.02)
        assert (await degraded(suite)).engine == "submitting/standin"
    assert first.asked.count("submit") == 1
    assert "submit" not in second.asked, "it is paid for once"


async def test_a_submission_that_cannot_be_asked_about_now_is_asked_about_later(tmp_path):
    engine = Minutes()
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        await until(has_reached, asking, made.name, 1)
        poll, failures = engine.poll, [EngineError("ENGINE_BUSY", "later", transient=True)]

        async def failing_once(submission):
            if failures:
                raise failures.pop()
            return await poll(submission)

        engine.poll = failing_once
        assert (await asking.problem(made.name)).reason == "ENGINE_BUSY"
        engine.goes_on.set()
        assert (await asking.wait(made.name)).HasField("response")
        assert engine.asked.count("submit") == 1


async def test_long_recordings_leave_places_to_short_ones(tmp_path):
    engine = held()
    async with serving(tmp_path, engine, pace=QUICK, transcriptions_at_once=4) as suite:
        asking = Asking(suite)
        for number in range(3):  # the same sound is heard once
            sound = np.full(601 * 8000, number * 1e-3)
            suite.there.answers["/hour.wav"] = Answer(body=sounds.wav(sound))
            await suite.fetch("/hour.wav", f"long-{number}")
            await asking.start(f"{PARENT}/recordings/long-{number}")
        await begun(engine, 2)
        await suite.fetch()
        short = asyncio.create_task(suite.transcribe())
        await begun(engine, 3)
        assert engine.calls == 3, "half of the places are for what is short"
        engine.gate.set()
        await short
