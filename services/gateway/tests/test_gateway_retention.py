"""What is past its days is deleted with its receipts; what is not done or dead never is."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from gateway_sources import resolved
from gateway_world import beside, body_of, opened
from trunkline.tenant.v1 import tenant_pb2
from trunkline_gateway import schema
from trunkline_gateway.events import retention
from trunkline_gateway.events.retention import sweep
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.intake.rejections import Rejections
from trunkline_gateway.providers.base import Delivery
from trunkline_gateway.receipts import UNVERIFIED

DAY = 86_400.0


def kept(days, source_id="s-1"):
    source = resolved(source_id)
    source.retention.CopyFrom(tenant_pb2.Retention(events_days=days))
    return source


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path, kept(3), kept(0, "s-2"), events_days=10) as world:
        yield world


async def test_ended_events_go_after_their_tenants_days_else_the_suites(world):
    short = [await world.done(1), await world.dead(2)]
    long = await world.done(3, source="s-2")
    world.clock.advance(3 * DAY - 1)
    await sweep(world.db)
    assert len(await world.listed()) == 3
    world.clock.advance(1)
    await sweep(world.db)
    assert [e.name for e in await world.listed()] == [long]
    assert short
    world.clock.advance(7 * DAY)
    await sweep(world.db)
    for table in (schema.events, schema.jobs, schema.receipts, schema.event_receipts):
        assert await world.rows(table) == 0, table.name


async def test_the_sweep_is_one_task_of_all_gateways(world, tmp_path):
    await world.done(1)
    world.clock.advance(10 * DAY)
    async with beside(world, tmp_path) as other:
        loops = [asyncio.create_task(one.gateway.tasks.run()) for one in (world, other)]
        seen = sa.select(schema.tasks.c.lease_token).where(
            schema.tasks.c.kind == "sweep", schema.tasks.c.state == "waiting"
        )
        async with asyncio.timeout(20):
            while await world.db.read(lambda conn: conn.execute(seen).scalar()) != 1:
                await asyncio.sleep(0.01)
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)
        await other.work()
    assert await world.listed() == []
    assert await world.db.read(lambda conn: conn.execute(seen).scalar()) == 1, "it was run once"
    world.clock.advance(600)
    assert await world.due() == 1


async def test_an_event_that_is_not_done_is_kept_until_it_is(world):
    waiting = await world.event(1)
    world.clock.advance(30 * DAY)
    await sweep(world.db)
    (job,) = await world.claim()
    assert (job.event, job.body) == (waiting, body_of(1))
    await sweep(world.db)
    await world.finish(job)
    await sweep(world.db)
    assert await world.listed() == []


async def test_a_receipt_nobody_could_judge_yet_is_never_deleted(world):
    world.feed.down = True
    await world.receipt(body_of(1), source="s-9", tenant="", verdict=UNVERIFIED)
    await world.admit()
    world.clock.advance(400 * DAY)
    await sweep(world.db)
    assert await world.rows(schema.receipts) == await world.rows(schema.undecided_receipts) == 1


async def test_receipts_that_were_rejected_at_admission_go_too(world):
    await world.receipt(body_of(1), tenant="", verdict=UNVERIFIED)
    await world.receipt(body_of(2), source="s-9", tenant="", verdict=UNVERIFIED)
    await world.admit()
    assert await world.rows(schema.rejections) == 2
    world.clock.advance(3 * DAY)
    await sweep(world.db)
    assert await world.rows(schema.rejections) == await world.rows(schema.receipts) == 1
    world.clock.advance(7 * DAY)
    await sweep(world.db)
    for table in (schema.rejections, schema.receipts, schema.eventless_receipts):
        assert await world.rows(table) == 0, table.name


async def test_rejected_requests_are_kept_no_longer_than_events(world):
    rejections = Rejections(world.db, keep_per_source=9, events_days=10)
    for source in (kept(3), kept(0, "s-2")):
        delivery = Delivery(b"{}", {}, "https://x/", world.clock.now())
        rejections.keep(source_of(source), "post_call", delivery, "wrong")
    await rejections.flush()
    world.clock.advance(3 * DAY)
    await sweep(world.db)
    assert [r.source for r in await world.rejected()] == ["tenants/acme/sources/s-2"]


async def test_a_sweep_of_many_holds_the_writer_for_few_rows_at_a_time(world, monkeypatch):
    for n in range(130):
        await world.receipt(body_of(n))
    await world.admit()
    for job in await world.claim(100):
        await world.finish(job)
    for job in await world.claim(100):
        await world.finish(job)
    world.clock.advance(3 * DAY)
    writes = []

    async def write(fn, **lane):
        writes.append(fn)
        return await type(world.db).write(world.db, fn, **lane)

    monkeypatch.setattr(world.db, "write", write)
    await sweep(world.db)
    assert await world.rows(schema.events) == await world.rows(schema.receipts) == 0
    assert len(writes) >= 4, "130 events, 40 at a time"


async def test_without_days_everything_is_kept(tmp_path):
    async with opened(tmp_path) as world:
        await world.done(1)
        world.clock.advance(timedelta(days=3650).total_seconds())
        await sweep(world.db)
        assert len(await world.listed()) == 1


async def test_a_tenant_whose_events_cannot_be_deleted_stands_in_nobodys_way(tmp_path, monkeypatch):
    other = resolved("s-2")
    other.source.name = "tenants/globex/sources/s-2"
    async with opened(tmp_path, kept(3), other) as world:
        world.admission = world.new_admission(events_days=3)
        await world.done(1)
        await world.done(2, source="s-2", tenant="globex")
        delete = retention.delete_events

        def poison(conn, tenant, found):
            if tenant == "acme":
                raise OverflowError("date value out of range")
            return delete(conn, tenant, found)

        monkeypatch.setattr(retention, "delete_events", poison)
        world.clock.advance(4 * DAY)
        await sweep(world.db)
        assert [len(await world.listed(parent=f"tenants/{t}")) for t in ("acme", "globex")] == [1, 0]
