"""WatchTranscription over real gRPC: segments as they are finished, progress, and the end, without a gap."""

import asyncio
import contextlib
from datetime import timedelta

import grpc
from test_audio_long_operations import SECONDS, WindowEngine, goes, has_reached, long_serving, until
from test_audio_service import failing
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_audio import schema
from trunkline_audio.transcripts.watch import TranscriptionWatch
from trunkline_jobs import Queue
from trunkline_jobs.operations import Operations
from trunkline_runtime.errors.wire import from_status
from trunkline_runtime.rpc.channels import acting_for


def watch(suite, name, cursor=""):
    return suite.transcripts.WatchTranscription(pb.WatchTranscriptionRequest(name=name, cursor=cursor))


async def told(stream):
    return [message async for message in stream]


def words(messages):
    return [segment.text for message in messages for segment in message.segments]


@contextlib.asynccontextmanager
async def under_way(folder, windows=0, **more):
    async with long_serving(folder, WindowEngine(), **more) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start()
        goes(suite.engine, windows)
        if windows:
            await until(has_reached, asking, made.name, windows)
        yield suite, asking, made.name


async def test_segments_come_as_they_are_finished_then_the_end(tmp_path):
    async with under_way(tmp_path) as (suite, _, name):
        stream, seen = watch(suite, name), []
        for number in range(SECONDS):
            goes(suite.engine, 1)
            while f"word-{number}" not in words(seen):
                seen.append(await asyncio.wait_for(stream.read(), 10))
        seen += await told(stream)
        assert words(seen) == [f"word-{number}" for number in range(SECONDS)]
        assert [message.done for message in seen][-1:] == [True]
        assert seen[-1].transcript.startswith("tenants/acme/transcripts/")
        reached = [message.transcribed_duration.ToMilliseconds() for message in seen]
        assert reached == sorted(reached)
        assert seen[-1].transcribed_duration == seen[-1].total_duration


async def test_a_watcher_that_comes_back_misses_nothing_and_gets_nothing_twice(tmp_path):
    async with under_way(tmp_path, 2) as (suite, asking, name):
        stream, seen = watch(suite, name), []
        while len(words(seen)) < 2:
            seen.append(await stream.read())
        stream.cancel()
        goes(suite.engine, 4)
        await asking.wait(name)
        again = await told(watch(suite, name, seen[-1].cursor))
        assert words(again) == ["word-2", "word-3", "word-4", "word-5"]
        assert again[-1].done
        (last,) = await told(watch(suite, name, again[-1].cursor))
        assert (last.done, last.transcript, list(last.segments)) == (True, again[-1].transcript, [])
        assert words(await told(watch(suite, name))) == [f"word-{number}" for number in range(SECONDS)]


async def test_another_process_serves_a_watcher_of_what_this_one_works_on(tmp_path):
    async with under_way(tmp_path, 1) as (suite, _, name):
        queue = Queue(suite.db, schema.jobs)
        elsewhere = Operations(
            suite.db, schema.operations, queue, service="audio", keep=timedelta(days=1), look_seconds=0.02
        )
        seen = []
        async for message in TranscriptionWatch(suite.db, elsewhere, asyncio.Event(), at_once=2).follow(
            name, ""
        ):
            seen.append(message)
            goes(suite.engine, 1)
        assert words(seen) == [f"word-{number}" for number in range(SECONDS)]
        assert len(seen) > 2
        assert seen[-1].done


async def test_an_operation_that_is_cancelled_ends_its_watches_with_the_reason(tmp_path):
    async with under_way(tmp_path, 1) as (suite, asking, name):
        watching = asyncio.create_task(told(watch(suite, name)))
        await asyncio.sleep(0.1)
        await asking.cancel(name)
        last = (await asyncio.wait_for(watching, 10))[-1]
        assert (last.done, last.transcript, from_status(last.failure).reason) == (
            True,
            "",
            "OPERATION_CANCELLED",
        )


async def test_what_is_not_there_or_anothers_is_not_found(tmp_path):
    async with under_way(tmp_path) as (suite, _, name):
        assert (await failing(told(watch(suite, f"{name}x")))).code.name == "NOT_FOUND"
        with acting_for("globex"):
            assert (await failing(told(watch(suite, name)))).code.name == "NOT_FOUND"


async def test_watchers_end_when_the_service_stops(tmp_path):
    async with under_way(tmp_path, 1) as (suite, _, name):
        stream = watch(suite, name)
        await stream.read()
        watching = asyncio.create_task(told(stream))
        suite.server.stopping.set()
        assert (await failing(watching)).reason == "STOPPING"


async def test_only_so_many_watch_at_the_same_time(tmp_path):
    async with under_way(tmp_path, 1, watchers_at_once=4) as (suite, _, name):
        streams = [watch(suite, name) for _ in range(2)]
        for stream in streams:
            await stream.read()
        assert (await failing(told(watch(suite, name)))).reason == "TOO_MANY_WATCHERS"
        streams[0].cancel()
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(grpc.RpcError):
                    assert await watch(suite, name).read()
                    break
                await asyncio.sleep(0.01)
