"""What the audio service does with its store, on whichever engine: checks, each given a World over an empty one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from trunkline_audio.admin_service import AdminServicer
from trunkline_audio.media.blobs import BlobNotFound, LocalBlobs
from trunkline_audio.recordings.rows import Recording, Recordings
from trunkline_audio.retention import Sweeper
from trunkline_audio.schema import metadata
from trunkline_audio.transcripts.refusals import Refusals
from trunkline_audio.transcripts.rows import Transcript, Transcripts
from trunkline_runtime.api.paging import Place, encode
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors import InvalidArgument, NotFound

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


class World(StoredWorld):
    """The service's parts that use the store, the clock, and the folder of bytes."""

    metadata = metadata

    def __init__(self, db, clock, folder):
        self.db, self.clock = db, clock
        self.blobs = LocalBlobs(folder / "blobs")
        self.recordings, self.transcripts = Recordings(db), Transcripts(db)
        self.sweeper, self.admin = Sweeper(db, self.blobs), AdminServicer(db, self.blobs)

    async def keep(self, made):
        async def sound():
            yield b"sound"

        await self.blobs.put(made.blob_key, sound())
        return await self.recordings.add(made)

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
    assert await world.rows() == {}


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
async def expired_transcripts_are_swept(world):
    world.clock.set(NOW)
    await world.recordings.add(recording("r1"))
    await world.transcripts.add(transcript("t1", until=NOW + DAY))
    await world.transcripts.add(transcript("t2"))
    world.clock.set(NOW + DAY)
    await world.sweeper.sweep()
    assert await world.rows() == {("recordings", "acme"): 1, ("transcripts", "acme"): 1}


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


@check
async def a_sweep_asks_for_tenants_and_then_names_each(world):
    await world.keep(recording("r1", until=NOW - DAY))
    with statements() as seen:
        await world.sweeper.sweep()
    steps = [" ".join(s.split()) for s in seen if lacks_tenant(s)]
    assert steps
    assert all(
        step.startswith(
            tuple(f"SELECT {name}.tenant_id FROM" for name in ("recordings", "transcripts", "refusals"))
        )
        for step in steps
    )
    assert len(seen) > len(steps)


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
