"""What the audio service does with its store, on whichever engine: checks, each given a World over an empty one."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline.common.v1 import purge_pb2
from trunkline_audio.admin_service import AdminServicer
from trunkline_audio.engines.base import EngineResult, Segment, SpeechCapabilities, Word
from trunkline_audio.engines.chain import EngineChain
from trunkline_audio.media.blobs.base import BlobNotFound
from trunkline_audio.media.blobs.local import LocalBlobs
from trunkline_audio.recordings.rows import Recording, Recordings
from trunkline_audio.recordings.uploads.rows import Upload, Uploads
from trunkline_audio.retention import Sweeper, delete_recordings
from trunkline_audio.schema import jobs, metadata, recordings
from trunkline_audio.transcripts.checkpoints import Notebook, kept_after, values_of
from trunkline_audio.transcripts.refusals import Refusals
from trunkline_audio.transcripts.results import Results
from trunkline_audio.transcripts.rows import Transcript, Transcripts
from trunkline_audio.transcripts.task import TranscriptionTask
from trunkline_audio.transcripts.transcriber import Transcriber
from trunkline_jobs import Queue
from trunkline_runtime.api.paging import Place, encode
from trunkline_runtime.engines.base import EngineError, EngineUsage
from trunkline_runtime.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    TrunklineError,
)
from trunkline_runtime.process.pace import Pace

from tests.integration.conforming import StoredWorld
from tests.integration.inspection import RunAgain, lacks_tenant, statements

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CHECKS = {}
EXCLUSIONS = {
    ("spanner", "expired_transcripts_are_swept"): (
        "the table's ROW DELETION POLICY deletes them there, which the emulator takes and does not enforce; that it "
        "is declared is shown by test_audio_schema.py"
    ),
}
"""(engine, check) -> why that engine is let off that check."""


def check(function):
    """Enrol a check in the suite."""
    CHECKS[function.__name__] = function
    return function


def recording(identity, tenant="acme", at=NOW, until=None):
    call = f"tenants/{tenant}/calls/c"
    return Recording(tenant, identity, call, "0" * 64, 5, "wav", 1_000_000, 1, 8000, at, until)


def transcript(identity, of="r1", tenant="acme", at=NOW, until=None):
    said = [{"speaker": 1, "channel": 0, "start": 0, "end": 5, "text": "héllo", "words": [["a", 0, 5, 0.5]]}]
    return Transcript(
        tenant,
        identity,
        of,
        0,
        "es",
        2,
        1,
        1_000_000,
        5,
        0.25,
        "",
        "local",
        said,
        at,
        until,
        0.75,
        "en-US",
        {"audio_seconds": 1.5, "cost_micros": 7},
    )


def upload(identity, tenant="acme", **more):
    return Upload(tenant, identity, "", "", "", 0, None, NOW, NOW + DAY, **more)


class World(StoredWorld):
    """The service's parts that use the store, the clock, and the folder of bytes."""

    metadata = metadata

    def __init__(self, db, clock, folder):
        self.db, self.clock = db, clock
        self.blobs = LocalBlobs(folder / "blobs")
        self.recordings, self.transcripts = Recordings(db), Transcripts(db)
        self.uploads = Uploads(db, most_open=3)
        self.sweeper = Sweeper(db, self.blobs, uploads=self.uploads)
        self.admin = AdminServicer(db, self.blobs, self.uploads)

    async def keep(self, made):
        async def sound():
            yield b"sound"

        await self.blobs.put(made.blob_key, sound())
        return await self.recordings.add(made)

    def results(self, **more):
        """What another process makes of the same store."""
        return Results(self.db, Queue(self.db, jobs).now, **{"shared": True, **more})

    def transcriber(self, engine, **more):
        return Transcriber(
            transcripts=self.transcripts,
            results=self.results(**more),
            blobs=self.blobs,
            preparer=None,
            refusals=Refusals(self.db),
            engines=EngineChain({"test": engine}),
            clock=self.clock,
            at_once=2,
            pace=Pace(intervals={"results.look": 0.02}),
        )

    async def has_bytes(self, made):
        try:
            async with self.blobs.local(made.blob_key):
                return True
        except BlobNotFound:
            return False


@check
async def what_is_kept_is_read_as_it_was(world):
    kept, said = recording("r1", until=NOW + DAY), transcript("t1")
    world.clock.set(NOW)
    assert await world.recordings.add(kept) == kept
    assert await world.recordings.get("acme", "r1") == kept
    assert await world.transcripts.add(said) == said
    assert await world.transcripts.get("acme", "t1") == said
    assert await world.transcripts.find("acme", "r1", lambda of: of.recording_id.replace("r", "t")) == (
        kept,
        said,
    )
    assert await world.recordings.get("other", "r1") is None
    assert await world.transcripts.get("other", "t1") is None
    assert await world.transcripts.find("acme", "r2", lambda of: "t1") == (None, None)


@check
async def the_first_of_an_id_stays(world):
    first = recording("r1")
    await world.recordings.add(first)
    assert await world.recordings.add(replace(first, format="ogg")) == first
    said = transcript("t1")
    await world.transcripts.add(said)
    assert await world.transcripts.add(replace(said, engine="other")) == said
    assert await world.transcripts.add(transcript("t2", of="never")) is None


@check
async def creators_of_one_id_at_once_agree(world):
    made = [replace(recording("r1"), format=f"wav-{n}") for n in range(4)]
    kept = await asyncio.gather(*(world.recordings.add(one) for one in made))
    assert len({one.format for one in kept}) == 1
    said = await asyncio.gather(
        *(world.transcripts.add(replace(transcript("t1"), engine=str(n))) for n in range(4))
    )
    assert len({one.engine for one in said}) == 1
    assert await world.rows() == {("recordings", "acme"): 1, ("transcripts", "acme"): 1}


@check
async def a_callback_that_is_run_again_changes_nothing_twice(world):
    again = RunAgain(world.db)
    recordings, transcripts = Recordings(again), Transcripts(again)
    assert await recordings.add(recording("r1")) == recording("r1")
    assert await transcripts.add(transcript("t1")) == transcript("t1")
    assert await recordings.delete("acme", "r1")
    assert again.undone == 3
    assert await world.rows() == {("deleted_resources", "acme"): 1}


@check
async def pages_show_each_once_while_rows_come_and_go(world):
    for n in range(20):  # four of each time: the id decides among them
        await world.recordings.add(recording(f"r{n:02d}", at=NOW + timedelta(seconds=n // 4)))
        await world.transcripts.add(
            transcript(f"t{n:02d}", of=f"r{n:02d}", at=NOW + timedelta(seconds=n // 4))
        )
    await world.recordings.add(recording("r99", tenant="other", at=NOW))
    for rows, name in ((world.recordings, "recording_id"), (world.transcripts, "transcript_id")):
        seen, token, more = [], "", True
        while more:
            page, token = await rows.page("acme", Place(3, token, ""))
            seen, more = seen + [getattr(row, name) for row in page], bool(token)
            if len(seen) == 6 and rows is world.recordings:
                await world.recordings.delete("acme", seen[-1])  # where the next page begins
                await world.recordings.add(recording("r98", at=NOW + DAY))  # before the first page
        letter = name[0]
        there = [n for n in range(20) if letter == "r" or n != 14]  # r14 took its transcript along
        assert seen == [f"{letter}{n:02d}" for n in reversed(there)], seen


@check
async def a_filter_finds_those_of_a_call_and_a_time(world):
    for n in range(3):
        at = NOW + n * DAY
        call = f"tenants/acme/calls/c{n % 2}"
        await world.recordings.add(replace(recording(f"r{n}", at=at), call=call))
        await world.transcripts.add(replace(transcript(f"t{n}", of=f"r{n}", at=at), language=f"l{n}"))
    late = f'create_time >= "{(NOW + DAY).isoformat()}"'
    for filter_, found in (
        ("call = c0", ["r2", "r0"]),
        ('call = "tenants/acme/calls/c1"', ["r1"]),
        (f"{late} AND call != c1", ["r2"]),
        ("format = none", []),
    ):
        page, _ = await world.recordings.page("acme", Place(5, "", ""), filter_)
        assert [one.recording_id for one in page] == found, filter_
    for filter_, found in (
        ("recording = r1", ["t1"]),
        ('recording = "tenants/acme/recordings/r2"', ["t2"]),
        (f"{late} AND language != l1", ["t2"]),
        ("unreliable_reason = none", []),
    ):
        said, _ = await world.transcripts.page("acme", Place(5, "", ""), filter_)
        assert [one.transcript_id for one in said] == found, filter_
    for rows in (world.recordings, world.transcripts):
        with pytest.raises(InvalidArgument):
            await rows.page("acme", Place(5, "", ""), "nothing = 1")


@check
async def lists_leave_segments_and_usage_out(world):
    await world.recordings.add(recording("r1"))
    await world.transcripts.add(transcript("t1"))
    (listed,), _ = await world.transcripts.page("acme", Place(5, "", ""))
    assert listed == replace(transcript("t1"), segments=[], usage=None)


@check
async def a_transcript_whose_time_has_come_is_gone_and_gives_way(world):
    world.clock.set(NOW)
    await world.recordings.add(recording("r1"))
    await world.transcripts.add(transcript("t1", until=NOW + DAY))
    world.clock.set(NOW + DAY)
    assert await world.transcripts.get("acme", "t1") is None
    assert (await world.transcripts.find("acme", "r1", lambda of: "t1"))[1] is None
    assert await world.transcripts.page("acme", Place(5, "", "")) == ([], "")
    later = replace(transcript("t1", until=NOW + 3 * DAY), engine="later")
    assert await world.transcripts.add(later) == later
    assert await world.transcripts.get("acme", "t1") == later


@check
async def expired_recordings_go_with_their_bytes(world):
    world.clock.set(NOW)
    for tenant in ("acme", "other"):
        for n in range(23):
            await world.keep(recording(f"r{n}", tenant, until=NOW + DAY if n else None))
    await world.sweeper.sweep()
    assert await world.rows() == {("recordings", "acme"): 23, ("recordings", "other"): 23}
    world.clock.set(NOW + DAY)
    await world.sweeper.sweep()
    assert await world.rows() == {("recordings", "acme"): 1, ("recordings", "other"): 1}
    assert await world.has_bytes(recording("r0"))
    assert not await world.has_bytes(recording("r1"))


@check
async def recordings_of_an_age_go_whatever_their_own_time(world):
    world.clock.set(NOW)
    old, late, young = NOW - 10 * DAY, NOW - 11 * DAY, NOW - 9 * DAY
    for tenant in ("acme", "other"):
        await world.keep(recording("r1", tenant, at=old))
        await world.keep(recording("r2", tenant, at=late, until=NOW + DAY))
        await world.keep(recording("r3", tenant, at=young))
        await world.keep(recording("r4", tenant, at=young, until=NOW))  # its own time comes earlier
    await Sweeper(world.db, world.blobs, recordings_age=10 * DAY).sweep()
    assert await world.rows() == {("recordings", "acme"): 1, ("recordings", "other"): 1}
    assert await world.has_bytes(recording("r3"))
    assert not await world.has_bytes(recording("r1"))


@check
async def expired_transcripts_are_swept(world):
    world.clock.set(NOW)
    await world.recordings.add(recording("r1"))
    await world.transcripts.add(transcript("t1", until=NOW + DAY))
    await world.transcripts.add(transcript("t2"))
    world.clock.set(NOW + DAY)
    await world.sweeper.sweep()
    assert await world.rows() == {("recordings", "acme"): 1, ("transcripts", "acme"): 1}


@check
async def what_was_deleted_on_request_is_not_kept_again(world):
    await world.keep(recording("r1"))
    for n in (1, 2):
        await world.transcripts.add(transcript(f"t{n}"))
    assert await world.transcripts.delete("acme", "t1")
    assert not await world.transcripts.delete("acme", "t1")
    for attempt in (
        lambda: world.transcripts.add(transcript("t1")),
        lambda: world.transcripts.find("acme", "r1", lambda of: "t1"),
    ):
        with pytest.raises(FailedPrecondition) as refused:
            await attempt()
        assert refused.value.reason == "TRANSCRIPT_DELETED"
    assert await world.transcripts.get("acme", "t2") is not None
    assert await world.recordings.delete("acme", "r1")
    assert not await world.recordings.delete("acme", "r2")
    for attempt in (
        lambda: world.recordings.add(recording("r1")),
        lambda: world.recordings.check("acme", "r1"),
    ):
        with pytest.raises(FailedPrecondition) as refused:
            await attempt()
        assert refused.value.reason == "RECORDING_DELETED"
    await world.recordings.check("acme", "r2")
    await world.recordings.add(recording("r1", tenant="other"))
    await world.purge("acme")
    assert await world.rows() == {("deleted_tenants", "acme"): 1, ("recordings", "other"): 1}


@check
async def calls_that_are_erased_take_their_recordings_and_transcripts_along(world):
    for n in range(3):
        await world.keep(replace(recording(f"r{n}"), call=f"tenants/acme/calls/c{n}"))
        await world.transcripts.add(transcript(f"t{n}", of=f"r{n}"))
    await delete_recordings(world.db, world.blobs, recordings.c.recording_id == "r1")
    request = purge_pb2.PurgeCallsRequest(parent="tenants/acme", calls=["tenants/acme/calls/c0"])
    request.transcripts.append("tenants/acme/transcripts/t1")
    world.clock.set(NOW)
    await world.uploads.begin(replace(upload("u1"), call="tenants/acme/calls/c0"))
    await world.uploads.begin(upload("u2"))
    answer = await world.admin.PurgeCalls(request, None)
    assert (answer.removed_count, answer.more) == (4, False)
    await world.uploads.delete(upload("u2"))
    assert await world.rows() == {("recordings", "acme"): 1, ("transcripts", "acme"): 1}
    assert not await world.has_bytes(recording("r0"))
    assert (await world.admin.PurgeCalls(request, None)).removed_count == 0


@check
async def a_deleted_tenant_leaves_a_tombstone_alone(world):
    for tenant in ("acme", "other"):
        for n in range(3):
            await world.keep(recording(f"r{n}", tenant))
            await world.transcripts.add(transcript(f"t{n}", of=f"r{n}", tenant=tenant))
    await world.purge("acme")
    await world.purge("acme")
    left = {("deleted_tenants", "acme"): 1, ("recordings", "other"): 3, ("transcripts", "other"): 3}
    assert await world.rows() == left
    assert not await world.has_bytes(recording("r1"))
    with pytest.raises(NotFound):
        await world.recordings.add(recording("late"))
    assert await world.transcripts.add(transcript("late", of="r1")) is None
    assert await world.rows() == left


@check
async def no_statement_for_a_tenant_lacks_its_tenant(world):
    await world.keep(recording("r1", until=NOW + DAY))
    with statements() as seen:
        for _ in range(2):  # new, and there already
            await world.recordings.add(recording("r2"))
            await world.transcripts.add(transcript("t2", of="r2"))
        await world.recordings.get("acme", "r2")
        await world.transcripts.get("acme", "t2")
        await world.transcripts.find("acme", "r2", lambda of: "t2")
        later = Place(5, encode((NOW + DAY, "x"), ""), "")
        await world.recordings.page("acme", later)
        await world.transcripts.page("acme", later)
        await world.recordings.delete("acme", "r2")
        await world.purge("acme")
    assert len(seen) >= 12
    assert [statement for statement in seen if lacks_tenant(statement)] == []


SWEPT = ("recordings", "transcripts", "checkpoints", "result_claims", "refusals", "uploads")


@check
async def a_sweep_asks_for_tenants_and_then_names_each(world):
    await world.keep(recording("r1", until=NOW - DAY))
    with statements() as seen:
        await world.sweeper.sweep()
    steps = [" ".join(s.split()) for s in seen if lacks_tenant(s)]
    assert steps
    others = [
        one for one in steps if not one.startswith(tuple(f"SELECT {of}.tenant_id FROM" for of in SWEPT))
    ]
    assert not others, others
    assert len(seen) > len(steps)


class Listening:
    """An engine that hears the same in everything, once `gate` is open."""

    name = "test/1 base"
    problem = ""
    capabilities = SpeechCapabilities()

    def __init__(self):
        self.calls = 0
        self.gate = asyncio.Event()
        self.heard = self.name
        self.failure = None

    async def transcribe(self, recording):
        self.calls += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        segments = (Segment(0, 0, 0.0, 0.5, "hello"), Segment(1, 0, 0.5, 1.0, "hi"))
        usage = EngineUsage(audio_seconds=1.0, cost_micros=16_000)
        return EngineResult(self.heard, "en", segments, lanes=2, usage=usage)


def task(identity, **more):
    return TranscriptionTask("acme", identity, **more)


async def listened(engine, times):
    async with asyncio.timeout(20):
        while engine.calls < times:
            await asyncio.sleep(0.01)


@check
async def the_same_sound_is_heard_once_by_two_processes(world):
    world.clock.set(NOW)
    for identity in ("r1", "r2", "r3"):
        await world.keep(recording(identity))
    engine = Listening()
    one, other = world.transcriber(engine), world.transcriber(engine)
    asked = [
        asyncio.create_task(one.transcribe(task("r1"))),
        asyncio.create_task(other.transcribe(task("r2", channel_speakers=(2, 1)))),
        asyncio.create_task(one.transcribe(task("r3"))),
    ]
    await listened(engine, 1)
    await asyncio.sleep(0.1)
    engine.gate.set()
    made = await asyncio.gather(*asked)
    assert engine.calls == 1
    assert sorted(said.reused for said in made) == [False, True, True]
    assert [said.usage for said in made if said.reused] == [None, None]
    assert [said.recording_id for said in made] == ["r1", "r2", "r3"]
    assert [[item["speaker"] for item in said.segments] for said in made] == [[1, 2], [2, 1], [1, 2]]
    assert not [table for table, _ in await world.rows() if table == "result_claims"]
    assert (await world.transcripts.get("acme", made[1].transcript_id)).to_proto().reused == made[1].reused


@check
async def one_process_needs_no_claims_to_hear_a_sound_once(world):
    world.clock.set(NOW)
    for identity in ("r1", "r2"):
        await world.keep(recording(identity))
    engine = Listening()
    transcriber = world.transcriber(engine, shared=False)
    asked = [asyncio.create_task(transcriber.transcribe(task(identity))) for identity in ("r1", "r2")]
    await listened(engine, 1)
    assert not [table for table, _ in await world.rows() if table == "result_claims"]
    engine.gate.set()
    made = await asyncio.gather(*asked)
    assert (engine.calls, sorted(said.reused for said in made)) == (1, [False, True])


@check
async def what_is_other_is_heard_by_itself(world):
    world.clock.set(NOW)
    await world.keep(recording("r1"))
    await world.keep(replace(recording("r2"), sha256="1" * 64))
    await world.keep(recording("r3", tenant="other"))
    engine = Listening()
    engine.gate.set()
    transcriber = world.transcriber(engine)
    tasks = [
        task("r1"), task("r1", language="de"), task("r1", generation=1), task("r2"),
        TranscriptionTask("other", "r3"),
    ]  # fmt: skip
    for number, one in enumerate(tasks, 1):
        assert not (await transcriber.transcribe(one)).reused
        assert engine.calls == number
    engine.name = "test/2 base"
    await world.keep(recording("r4"))
    assert not (await transcriber.transcribe(task("r4"))).reused, "another engine"
    engine.heard = "another/1"
    await world.keep(replace(recording("r5"), sha256="2" * 64))
    await world.keep(replace(recording("r6"), sha256="2" * 64))
    await transcriber.transcribe(task("r5"))
    assert not (await transcriber.transcribe(task("r6"))).reused, "another engine stood in"


@check
async def a_result_goes_with_its_transcript_and_its_recording(world):
    world.clock.set(NOW)
    engine = Listening()
    engine.gate.set()
    transcriber = world.transcriber(engine)
    await world.keep(recording("r1", until=NOW + DAY))
    await transcriber.transcribe(task("r1", expire_at=NOW + DAY / 2))
    world.clock.set(NOW + DAY / 2)
    await world.keep(recording("r2"))
    await transcriber.transcribe(task("r2"))
    assert engine.calls == 2, "the transcript has expired"
    await world.recordings.delete("acme", "r2")
    await world.keep(recording("r3", until=NOW + DAY))
    await transcriber.transcribe(task("r3"))
    assert engine.calls == 3, "the recording was deleted"
    world.clock.set(NOW + DAY)
    await world.keep(recording("r4"))
    await transcriber.transcribe(task("r4"))
    assert engine.calls == 4, "the recording has expired"
    assert await world.results().claim("acme", "k") is None
    await world.purge("acme")
    assert not [
        table for table, tenant in await world.rows() if tenant == "acme" and table != "deleted_tenants"
    ]


@check
async def who_fails_lets_the_next_one_listen(world):
    world.clock.set(NOW)
    await world.keep(recording("r1"))
    await world.keep(recording("r2"))
    engine = Listening()
    engine.failure = EngineError("ENGINE_DOWN", "down", transient=True)
    one, other = world.transcriber(engine), world.transcriber(engine)
    first = asyncio.create_task(one.transcribe(task("r1")))
    await listened(engine, 1)
    second = asyncio.create_task(other.transcribe(task("r2")))
    await asyncio.sleep(0.05)
    engine.gate.set()
    with pytest.raises(TrunklineError):
        await first
    engine.failure = None
    assert not (await second).reused
    assert engine.calls == 2


@check
async def a_process_that_dies_holds_a_result_for_the_rest_of_its_lease(world):
    world.clock.set(NOW)
    dead, other = world.results(lease_seconds=1.0), world.results(lease_seconds=1.0)
    assert await dead.claim("acme", "k") is None
    standing = await other.claim("acme", "k")
    assert (standing.result, standing.is_held) == (None, True)
    async with dead.held("acme", "k"):
        pass  # its renewal has ended with the block
    world.clock.advance(2.0)
    async with asyncio.timeout(20):
        while await other.claim("acme", "k") is not None:  # on Spanner by the database's time
            await asyncio.sleep(0.1)
    await dead.give_up("acme", "k")
    assert (await dead.standing("acme", "k")).is_held, "what is another's is not given up"
    await other.give_up("acme", "k")
    assert not (await dead.standing("acme", "k")).is_held


@check
async def a_process_that_listens_for_long_keeps_its_lease(world):
    world.clock.set(NOW)
    one, other = world.results(lease_seconds=2.0), world.results(lease_seconds=2.0)
    assert await one.claim("acme", "k") is None
    async with one.held("acme", "k"):
        for _ in range(2):
            world.clock.advance(1.3)
            assert (await other.standing("acme", "k")).is_held
            await asyncio.sleep(1.3)


class Attempt:
    """An attempt at an operation, whose lease holds."""

    tenant = "acme"
    request = pb.TranscribeRecordingRequest(name="tenants/acme/recordings/r1")

    def __init__(self, db):
        self.db = db
        self.told = []

    async def state(self, told, beside=None):
        self.told.append(told)
        if beside is not None:
            await self.db.write(beside)


def noted(world):
    return Notebook(world.db, Attempt(world.db), (1, 2), DAY, Pace(intervals={"checkpoints.write": 60.0}))


@check
async def what_is_finished_is_numbered_in_its_order_and_kept_once(world):
    made = await world.keep(recording("r1"))
    said = [Segment(0, 0, 0.0, 0.5, "hello", (Word("hello", 0.0, 0.5, 0.5),))]
    with statements() as seen:
        for earlier, keys in (("", "ab"), ("ab", "bc"), ("abc", "d")):
            async with noted(world) as notebook:
                book = notebook.of(made, "t1")
                assert await book.found() == {key: {"of": [key]} for key in earlier}
                for key in keys:
                    book.keep(key, {"of": [key]}, said, lanes=2)
                book.reach(0.5)
                await book.written()
        rows = await world.db.read(lambda conn: kept_after(conn, "acme", "t1", 1, world.clock.now(), 2))
        assert [row.number for row in rows] == [2, 3]
        assert rows[0].segments[0]["text"] == "hello"
    assert not [statement for statement in seen if lacks_tenant(statement)]
    assert notebook.metadata().transcribed_duration.ToMilliseconds() == 1000, "the transcript is there"
    world.clock.advance(3_601.0)
    assert not await world.db.read(lambda conn: values_of(conn, "acme", "t1", world.clock.now()))


@check
async def what_is_finished_goes_with_its_recording(world):
    made = await world.keep(recording("r1"))
    with contextlib.suppress(ZeroDivisionError):
        async with noted(world) as notebook:
            notebook.of(made, "t1").keep("a", 1)
            raise ZeroDivisionError
    assert await world.db.read(lambda conn: values_of(conn, "acme", "t1", world.clock.now())) == {"a": 1}
    async with noted(world) as notebook:
        await notebook.of(made, "t1").drop("a")
        notebook.keep("b", 2)
    await world.recordings.delete("acme", "r1")
    assert await world.db.read(lambda conn: values_of(conn, "acme", "t1", world.clock.now())) == {}
    async with noted(world) as notebook:
        notebook.of(made, "t1").keep("c", 3)
    assert await world.db.read(lambda conn: values_of(conn, "acme", "t1", world.clock.now())) == {}


@check
async def what_is_finished_goes_with_its_transcript(world):
    made = await world.keep(recording("r1"))
    async with noted(world) as notebook:
        notebook.of(made, "t1").keep("a", 1, [Segment(0, 0, 0.0, 0.5, "secret", ())])
    await world.transcripts.add(transcript("t1", of="r1"))
    assert await world.transcripts.delete("acme", "t1")
    assert not await world.db.read(lambda conn: kept_after(conn, "acme", "t1", 0, world.clock.now(), 9))


@check
async def an_upload_moves_on_piece_by_piece(world):
    world.clock.set(NOW)
    begun = upload("u1")
    await world.uploads.begin(begun)
    assert await world.uploads.get("acme", "u1") == begun
    with pytest.raises(NotFound):
        await world.uploads.get("other", "u1")
    with pytest.raises(Aborted):
        await world.uploads.begin(upload("u1"))
    one = await world.uploads.append(begun, "p.0.a", 5, 0, NOW + DAY)
    with pytest.raises(Aborted):
        await world.uploads.append(begun, "p.0.b", 5, 0, NOW + DAY)
    two = await world.uploads.append(one, "p.5.c", 3, 8, NOW + 2 * DAY)
    assert await world.uploads.get("acme", "u1") == two
    assert two.is_whole
    assert two.pieces == [[0, "p.0.a"], [5, "p.5.c"]]
    await world.uploads.hold(two, "me")
    with pytest.raises(Aborted):
        await world.uploads.hold(two, "you")
    two = replace(two, writer="me")
    assert await world.uploads.leaves_bytes(two)
    assert await world.uploads.names(two, "p.5.c")
    assert not await world.uploads.names(two, "p.5.d")
    made = recording("u1")
    with pytest.raises(Aborted):
        await world.uploads.complete(replace(two, writer="you"), made, NOW + DAY)
    assert not await world.uploads.leaves_bytes(replace(two, writer="you"))
    assert await world.uploads.bytes_of("acme") == 8
    assert await world.uploads.complete(two, made, NOW + DAY) == (made, False)
    assert not await world.uploads.leaves_bytes(two), "the bytes are the recording's"
    assert await world.uploads.bytes_of("acme") == 0
    ended = await world.uploads.get("acme", "u1")
    assert (ended.recording_id, ended.existing, ended.writer, ended.pieces) == ("u1", False, "", [])
    with pytest.raises(AlreadyExists):
        await world.uploads.begin(upload("u1"))
    again = replace(upload("u2"), writer="me", writer_until=NOW + DAY)
    await world.uploads.begin(again)
    assert await world.uploads.leaves_bytes(again)
    assert not await world.uploads.leaves_bytes(two)
    with pytest.raises(Aborted):
        await world.uploads.complete(replace(again, writer="you"), recording("u2"), None)
    assert await world.uploads.complete(again, recording("u2"), None) == (made, True), "the same bytes"
    assert await world.uploads.same("acme", made.sha256, "") == made
    assert await world.uploads.same("other", made.sha256, "") is None
    with pytest.raises(NotFound):
        await world.uploads.get("acme", "u2")


@check
async def an_upload_that_was_deleted_does_not_become_a_recording(world):
    world.clock.set(NOW)
    mine = upload("u1", writer="me", writer_until=NOW + DAY)
    await world.uploads.begin(mine)
    await world.uploads.delete(mine)
    with pytest.raises(Aborted):
        await world.uploads.complete(mine, recording("u1"), None)
    assert await world.uploads.leaves_bytes(mine), "what it wrote is to go"
    with pytest.raises(Aborted):
        await world.uploads.begin(upload("u1"))
    await world.uploads.release(mine)
    await world.uploads.begin(upload("u1", writer="you", writer_until=NOW + DAY))
    assert not await world.uploads.leaves_bytes(mine)
    await world.uploads.release(mine)
    assert (await world.uploads.get("acme", "u1")).writer == "you"


@check
async def a_recording_that_was_deleted_is_not_uploaded_again(world):
    world.clock.set(NOW)
    await world.keep(recording("r1"))
    late = upload("r2", writer="me")
    await world.uploads.begin(late)
    await world.keep(recording("r2"))
    for identity in ("r1", "r2"):
        await world.recordings.delete("acme", identity)
    with pytest.raises(FailedPrecondition) as refused:
        await world.uploads.begin(upload("r1"))
    assert refused.value.reason == "RECORDING_DELETED"
    with pytest.raises(FailedPrecondition):
        await world.uploads.complete(late, recording("r2"), None)


@check
async def uploads_go_with_their_call(world):
    async def bytes_():
        yield b"some"

    world.clock.set(NOW)
    for n in range(2):
        begun = replace(upload(f"u{n}"), call=f"tenants/acme/calls/c{n}")
        await world.uploads.begin(begun)
        await world.blobs.put(f"{begun.folder}/p.0.a", bytes_())
    request = purge_pb2.PurgeCallsRequest(parent="tenants/acme", calls=["tenants/acme/calls/c0"])
    assert (await world.admin.PurgeCalls(request, None)).removed_count == 1
    with pytest.raises(NotFound):
        await world.uploads.get("acme", "u0")
    with pytest.raises(BlobNotFound):
        await world.blobs.size(f"{upload('u0').folder}/p.0.a")
    assert await world.uploads.get("acme", "u1")


@check
async def an_upload_whose_writer_went_silent_gives_way(world):
    world.clock.set(NOW)
    await world.uploads.begin(upload("u1", writer="me", writer_until=NOW + DAY / 2))
    with pytest.raises(Aborted):
        await world.uploads.begin(upload("u1"))
    world.clock.set(NOW + DAY / 2)
    await world.uploads.begin(upload("u1", writer="you", writer_until=NOW + DAY))
    for identity in ("u2", "u3"):
        await world.uploads.begin(upload(identity))
    with pytest.raises(ResourceExhausted):
        await world.uploads.begin(upload("u4"))


@check
async def abandoned_uploads_are_swept_with_their_bytes(world):
    async def bytes_():
        yield b"some"

    world.clock.set(NOW)
    kept, gone = upload("kept"), upload("gone")
    for one in (kept, gone):
        await world.uploads.begin(one)
        await world.blobs.put(f"{one.folder}/p.0.a", bytes_())
        await world.blobs.put(one.blob_key, bytes_())
    kept = await world.uploads.append(kept, "p.0.a", 4, 0, NOW + 3 * DAY)
    world.clock.set(NOW + 2 * DAY)
    await world.sweeper.sweep()
    assert await world.uploads.get("acme", "kept") == kept
    with pytest.raises(NotFound):
        await world.uploads.get("acme", "gone")
    assert await world.blobs.size(kept.blob_key) == 4
    for key in (gone.blob_key, f"{gone.folder}/p.0.a"):
        with pytest.raises(BlobNotFound):
            await world.blobs.size(key)


REFUSED = EngineError("ENGINE_INVALID_ARGUMENT", "not this language", transient=False)


@check
async def a_refusal_is_known_for_a_day(world):
    world.clock.set(NOW)
    refusals = Refusals(world.db)
    for _ in range(2):
        await refusals.keep("acme", "f1", REFUSED)
    (name, known), *more = (await refusals.known("acme", {"google": "f1", "whisper": "f2"})).items()
    assert not more
    assert (name, known.reason, str(known), known.transient) == (
        "google",
        REFUSED.reason,
        "not this language",
        False,
    )
    assert await refusals.known("other", {"google": "f1"}) == {}
    world.clock.set(NOW + DAY)
    assert await refusals.known("acme", {"google": "f1"}) == {}
    await refusals.keep("acme", "f1", REFUSED)
    assert await refusals.known("acme", {"google": "f1"})


@check
async def refusals_are_bounded(world):
    refusals = Refusals(world.db, most=2)
    for n in range(3):
        await refusals.keep("acme", f"f{n}", REFUSED)
    assert set(await refusals.known("acme", {f"f{n}": f"f{n}" for n in range(3)})) == {"f0", "f1"}


@check
async def a_degraded_transcript_is_improved_once(world):
    await world.recordings.add(recording("r1"))
    waits = replace(transcript("t1"), wanted_engine="google", again_at=NOW, asked={"language": "en"})
    await world.transcripts.add(waits)
    assert await world.transcripts.get("acme", "t1") == waits
    better = replace(transcript("t1"), engine="better", language="en")
    await world.transcripts.improve(better)
    assert await world.transcripts.get("acme", "t1") == better
    await world.transcripts.improve(replace(better, engine="another"))
    assert await world.transcripts.get("acme", "t1") == better
