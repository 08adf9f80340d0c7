"""What only Spanner has: several gateways over one database, and lists that may be some seconds old."""

from __future__ import annotations

import asyncio

import pytest
from gateway_deliveries import callrail
from gateway_world import MIGRATIONS, PARENT, body_of, opened
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline_gateway import schema
from trunkline_gateway.intake.backlog import ByShard
from trunkline_store import SystemClock

from tests.integration.spanner_emulator import migrated_database


class Clock(SystemClock):
    """The real time; nothing that waits for a fake clock's steps is done here."""

    def advance(self, _seconds):
        """Time passes by itself."""


@pytest.fixture
def staleness():
    """How many seconds old the lists of the second gateway may be."""
    return 0.0


@pytest.fixture
async def worlds(tmp_path, staleness):
    with migrated_database(MIGRATIONS, schema.metadata) as url:
        options = {"url": f"{url}?writers=2", "clock": Clock()}
        stale = {"list_staleness_seconds": staleness}
        async with opened(tmp_path, **options) as one, opened(tmp_path, **options, **stale) as other:
            yield one, other


async def test_gateways_that_admit_at_once_admit_each_receipt_once(worlds):
    one, other = worlds
    for number in range(40):
        await (one if number % 2 else other).receipt(
            body_of(number % 30), receipt_id=f"{number:032x}", source="s-1"
        )
    admissions = [world.new_admission(batch=6) for world in worlds]

    async def admit(admission):
        while await admission.step():
            pass

    async with asyncio.timeout(60):
        await asyncio.gather(*map(admit, admissions))
        await asyncio.gather(*map(admit, admissions))
    assert len(await one.listed()) == 30
    assert await other.rows(schema.event_receipts) == 40
    assert await other.rows(schema.jobs) == 30
    left = await one.db.read(lambda conn: ByShard().read(conn, 100))
    assert left.rows == []


async def test_undecided_receipts_of_a_gateway_that_went_away_are_anothers(worlds):
    one, other = worlds
    one.feed.down = True
    await one.receipt(body_of(1))
    await one.admit()
    assert await one.rows(schema.undecided_receipts) == 1
    running = asyncio.create_task(other.gateway.tasks.run())
    async with asyncio.timeout(30):
        while not await other.listed():
            await asyncio.sleep(0.05)
    running.cancel()


@pytest.mark.parametrize("staleness", [30.0])
async def test_a_list_may_be_old_and_an_event_never_is(worlds):
    now, old = worlds
    await old.receipt(body_of(1))
    await old.admit()
    assert await old.listed() == [], "as of before it came"
    dead = pb.ListDeadLettersRequest(parent=PARENT)
    assert list((await old.events.ListDeadLetters(dead, None)).events) == []
    (event,) = await now.listed()
    assert (await old.show(event.name)).receipt_count == 1
    await old.keep_rejected(callrail(body_of(2), "wrong"))
    assert len(await old.rejected()) == 1, "whoever accepts looks again"


async def test_a_flood_of_one_source_leaves_room_in_every_shard(worlds):
    world, _ = worlds
    for number in range(160):
        await world.receipt(body_of(number), receipt_id=f"{number:032x}", source="s-1")
    for number in range(160, 168):
        await world.receipt(body_of(number), receipt_id=f"{number:032x}", source="z-2")
    backlog = ByShard()
    for shard in range(8):
        keys = await world.db.read(lambda conn, s=shard: backlog._keys(conn, s, 1000))
        there = {key["source_id"] for key in keys}
        some = await world.db.read(lambda conn, s=shard: backlog._keys(conn, s, 6))
        assert {key["source_id"] for key in some} == there, "a few of each"
        assert len(some) <= 6 + len(there)
    batch = await world.db.read(lambda conn: backlog.read(conn, 500))
    assert (len(batch.rows), batch.more) == (168, False)
    assert (await world.db.read(lambda conn: backlog.read(conn, 20))).more
