"""Recordings and transcripts go when their time has come, bytes included; the transcript may outlive the sound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from trunkline_audio import retention
from trunkline_audio.media.blobs.local import LocalBlobs
from trunkline_audio.recordings.rows import Recording, Recordings
from trunkline_audio.retention import Sweeper, delete_recordings
from trunkline_audio.schema import metadata, recordings, transcripts
from trunkline_audio.transcripts.rows import Transcript, Transcripts
from trunkline_runtime.errors import Internal, Unavailable
from trunkline_store import Database, FakeClock

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


async def chunks() -> AsyncIterator[bytes]:
    yield b"sound"


def recording(identity, expire_at):
    return Recording("acme", identity, "tenants/acme/calls/c", "0" * 64, 5, "wav", 1, 1, 8000, NOW, expire_at)


def transcript(identity, of, expire_at):
    return Transcript("acme", identity, of, 0, "en-US", 1, 1, 1, 1, 0.5, "", "local", [], NOW, expire_at)


class World:
    def __init__(self, db, folder, clock):
        self.db, self.clock = db, clock
        self.folder = folder / "blobs"
        self.blobs = LocalBlobs(self.folder)
        self.recordings, self.transcripts = Recordings(db), Transcripts(db)
        self.sweeper = Sweeper(db, self.blobs)

    async def keep(self, identity, expire_at):
        kept = await self.recordings.add(recording(identity, expire_at))
        await self.blobs.put(kept.blob_key, chunks())

    async def left(self):
        def look(conn):
            return (
                set(conn.execute(sa.select(recordings.c.recording_id)).scalars()),
                set(conn.execute(sa.select(transcripts.c.transcript_id)).scalars()),
            )

        return await self.db.read(look)

    def files(self):
        return {path.name for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
async def world(tmp_path):
    clock = FakeClock(NOW)
    url = f"sqlite:///{tmp_path}/audio.db"
    async with await Database.open(url, metadata, migrations="trunkline_audio.migrations", clock=clock) as db:
        yield World(db, tmp_path, clock)


async def test_what_is_past_its_time_goes_with_its_bytes(world):
    await world.keep("r1", NOW + DAY)
    await world.keep("r2", NOW + 2 * DAY)
    await world.keep("r3", None)
    await world.transcripts.add(transcript("t1", "r1", NOW + 3 * DAY))
    await world.transcripts.add(transcript("t2", "r2", NOW + DAY))
    await world.sweeper.sweep()
    assert await world.left() == ({"r1", "r2", "r3"}, {"t1", "t2"})
    world.clock.advance(DAY.total_seconds())
    await world.sweeper.sweep()
    assert await world.left() == ({"r2", "r3"}, {"t1"}), "a transcript may outlive its recording"
    assert world.files() == {"r.r2", "r.r3"}
    world.clock.advance(10 * DAY.total_seconds())
    await world.sweeper.sweep()
    assert await world.left() == ({"r3"}, set())
    assert world.files() == {"r.r3"}


async def test_calls_are_told_before_their_recordings_go_past_their_days(world):
    told, failures = [], [Unavailable("not now"), Internal("a bug")]

    async def forget(call, recording, transcript_stays):
        told.append((recording, transcript_stays))
        if failures:
            raise failures.pop(0)

    sweeper = Sweeper(world.db, world.blobs, forget)
    await world.keep("r1", NOW)
    await sweeper.sweep()
    assert (await world.left())[0] == {"r1"}, "it waits for the tenant service"
    await sweeper.sweep()
    assert (await world.left())[0] == set(), "not for one that always fails"
    assert told == [("tenants/acme/recordings/r1", True)] * 2


async def test_a_sweep_that_died_between_bytes_and_rows_is_ended_by_the_next(world):
    for n in range(45):
        await world.keep(f"r{n:02d}", NOW)
    await world.blobs.delete(recording("r00", NOW).blob_key)
    await world.sweeper.sweep()
    assert await world.left() == (set(), set())
    assert world.files() == set()


async def test_a_recording_whose_bytes_cannot_be_deleted_stands_in_nobodys_way(world, monkeypatch):
    for n in range(50):
        await world.keep(f"r{n:02}", NOW)
    delete = world.blobs.delete

    async def refused(key):
        if key.endswith("r03"):
            raise PermissionError(key)
        await delete(key)

    monkeypatch.setattr(world.blobs, "delete", refused)
    await world.sweeper.sweep()
    assert await world.left() == ({"r03"}, set())
    monkeypatch.undo()
    await world.sweeper.sweep()
    assert await world.left() == (set(), set())


async def test_the_index_by_expiry_is_asked_only_for_what_has_one(world, monkeypatch):
    """It has no row of what never expires: Spanner refuses a query that might mean one. Its emulator is told not to."""
    asked = []
    by_index = retention.by_index

    def noted(query, table, name):
        asked.append(name)
        return by_index(query, table, name)

    monkeypatch.setattr(retention, "by_index", noted)
    await world.keep("r1", NOW - DAY)
    await world.keep("r2", None)
    await world.sweeper.sweep()
    assert asked == ["recordings_by_expiry"]
    assert await delete_recordings(world.db, world.blobs, recordings.c.tenant_id == "acme") == 1
    assert asked == ["recordings_by_expiry"]
    assert await world.left() == (set(), set())
