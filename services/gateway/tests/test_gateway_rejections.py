"""Rejected requests are kept whole, and become receipts once when they verify; purging deletes what ended."""

from __future__ import annotations

import asyncio

import pytest
from gateway_deliveries import CALLRAIL, STANDARD, TWILIO, callrail, standard, twilio
from gateway_world import NOW, PARENT, body_of, opened
from trunkline.gateway.v1 import event_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway import schema
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.intake.rejections import Rejections
from trunkline_runtime.errors import FailedPrecondition, NotFound
from trunkline_store.errors import InvalidValue, StoreBusy

OLD, NEW = "the-old-secret", "the-new-secret"


def source(provider=CALLRAIL, secret=OLD, source_id="s-1"):
    return source_pb2.ResolvedSource(
        source=source_pb2.Source(name=f"{PARENT}/sources/{source_id}", provider=provider),
        secrets=[source_pb2.SourceSecret(value=secret)],
        accepting=True,
        revision=1,
    )


def correct(world, resolved):
    """What the watch does after a secret was rotated."""
    resolved.revision = 2
    world.sources._put(resolved)
    world.feed.sources[resolved.source.name.rsplit("/", 1)[1]] = resolved


async def reject(world, resolved, *deliveries, event_type="post_call"):
    for delivery in deliveries:
        world.rejections.keep(source_of(resolved), event_type, delivery, "wrong")
    await world.rejections.flush()


async def accept(world, name):
    return await world.events.AcceptRejection(pb.AcceptRejectionRequest(name=name), None)


async def accept_all(world, **fields):
    return await world.events.AcceptRejections(pb.AcceptRejectionsRequest(parent=PARENT, **fields), None)


@pytest.mark.parametrize(
    ("provider", "secret", "delivery"),
    [
        (CALLRAIL, NEW, callrail({"id": 7, "timestamp": "2026-11-20T07:00:00Z", "note": "x" * 200_000}, NEW)),
        (TWILIO, NEW, twilio({"CallSid": "CA1", "CallStatus": "completed", "AccountSid": "AC1"}, NEW)),
        (STANDARD, "whsec_" + "A" * 32, standard(b'{"id": "m-1"}', "whsec_" + "A" * 32)),
    ],
    ids=["callrail_large", "twilio_signs_its_url", "standard_signs_its_time"],
)
async def test_after_the_secret_was_corrected_it_becomes_a_receipt_once(tmp_path, provider, secret, delivery):
    wrong = source(provider, "whsec_" + "B" * 32 if provider == STANDARD else OLD)
    async with opened(tmp_path, wrong) as world:
        world.clock.advance(86_400)
        await reject(world, wrong, delivery)
        (kept,) = await world.rejected()
        assert len(kept.body) == min(65_536, len(delivery.body))
        with pytest.raises(FailedPrecondition) as refused:
            await accept(world, kept.name)
        assert refused.value.reason == "STILL_REJECTED"
        correct(world, source(provider, secret))
        accepted = await asyncio.gather(*(accept(world, kept.name) for _ in range(3)), return_exceptions=True)
        assert sorted(type(a).__name__ for a in accepted) == [
            "AcceptRejectionResponse",
            "NotFound",
            "NotFound",
        ]
        await world.admit()
        assert await world.rejected() == []
        (event,) = await world.listed()
        story = await world.events.GetEvent(
            pb.GetEventRequest(name=event.name, view=pb.EVENT_VIEW_FULL), None
        )
        assert story.body == delivery.body
        assert story.receipts[0].receipt_id in {getattr(a, "receipt_id", None) for a in accepted}
        assert story.receive_time.ToDatetime() == NOW.replace(tzinfo=None), (
            "when it came, not when it was accepted"
        )


async def test_an_accepted_request_that_was_delivered_again_meanwhile_is_the_same_event(tmp_path):
    async with opened(tmp_path, source()) as world:
        body = body_of(7)
        await reject(world, source(), callrail(body, NEW))
        correct(world, source(secret=NEW))
        name = await world.event(7)
        await accept(world, (await world.rejected())[0].name)
        await world.admit()
        assert [e.name for e in await world.listed()] == [name]
        assert (await world.show(name)).receipt_count == 2


async def test_all_that_verify_are_accepted_and_the_others_stay(tmp_path):
    async with opened(tmp_path, source()) as world:
        good = [callrail(body_of(n), NEW) for n in range(23)]
        await reject(world, source(), *good, callrail(body_of(99), "forged"))
        correct(world, source(secret=NEW))
        found = await accept_all(world, dry_run=True)
        assert (found.accepted_count, found.rejected_count) == (23, 1)
        assert len(await world.rejected()) == 24
        assert (await accept_all(world, filter="event_type = other")).accepted_count == 0
        made = await accept_all(world, filter="source = s-1")
        assert (made.accepted_count, made.rejected_count) == (23, 1)
        await world.admit()
        assert len(await world.listed()) == 23
        again = await accept_all(world)
        assert (again.accepted_count, again.rejected_count) == (0, 1)


async def test_another_tenants_rejection_is_not_found(tmp_path):
    async with opened(tmp_path, source()) as world:
        await reject(world, source(), callrail(body_of(1), OLD))
        (kept,) = await world.rejected()
        with pytest.raises(NotFound):
            await accept(world, kept.name.replace("acme", "globex"))


async def test_what_waits_to_be_kept_is_bounded_in_bytes(tmp_path):
    async with opened(tmp_path, source()) as world:
        rejections = Rejections(world.db, keep_per_source=100)
        for n in range(40):
            delivery = callrail(b"%02d" % n + b"x" * 1_000_000)
            rejections.keep(source_of(source()), "post_call", delivery, "wrong")
        await rejections.flush()
        assert len(await world.rejected()) == 16


async def test_a_purge_counts_then_deletes_what_ended_with_its_receipts(tmp_path):
    async with opened(tmp_path) as world:
        dead, done = await world.dead(1), await world.done(2)
        await world.receipt(body_of(2))
        held = await world.event(3)
        await world.claim()
        waiting = await world.event(4)
        request = pb.PurgeEventsRequest(parent=PARENT, filter="event_type = post_call")
        found = await world.events.PurgeEvents(request, None)
        assert (found.purge_count, list(found.purge_sample)) == (2, [dead, done])
        assert len(await world.listed()) == 4
        request.force = True
        purged = await world.events.PurgeEvents(request, None)
        assert (purged.purge_count, purged.more) == (2, False)
        assert {e.name for e in await world.listed()} == {held, waiting}
        for table in (schema.receipts, schema.event_receipts, schema.jobs, schema.events):
            assert await world.rows(table) == 2, table.name
        again = await world.events.PurgeEvents(request, None)
        assert again.purge_count == 0


async def test_an_event_with_very_many_redeliveries_is_purged_in_small_steps(tmp_path):
    async with opened(tmp_path) as world:
        await world.done(1)
        for _ in range(200):
            await world.receipt(body_of(1))
        await world.admit()
        other = await world.event(2)
        request = pb.PurgeEventsRequest(parent=PARENT, filter="state = done", force=True)
        assert (await world.events.PurgeEvents(request, None)).purge_count == 1
        assert [e.name for e in await world.listed()] == [other]
        assert await world.rows(schema.receipts) == await world.rows(schema.event_receipts) == 1


async def test_a_purged_event_that_is_delivered_again_is_new(tmp_path):
    async with opened(tmp_path) as world:
        name = await world.done(1)
        request = pb.PurgeEventsRequest(parent=PARENT, filter="state = done", force=True)
        await world.events.PurgeEvents(request, None)
        assert await world.event(1) == name
        assert (await world.show(name)).state == event_pb2.EVENT_STATE_WAITING


async def test_a_rejection_that_cannot_be_written_takes_no_other_along(tmp_path):
    async with opened(tmp_path) as world:
        for number, reason in enumerate(("wrong", "\ud800", "wrong")):
            world.rejections.keep(source_of(source()), "post_call", callrail(body_of(number)), reason)
        await world.rejections.flush()
        assert len(await world.rejected()) == 2


async def test_one_that_is_past_its_days_is_not_accepted_though_it_is_still_stored(tmp_path):
    async with opened(tmp_path, source(), events_days=1) as world:
        delivery = callrail({"id": 7, "timestamp": "2026-11-20T07:00:00Z"}, NEW)
        await reject(world, source(), delivery)
        (kept,) = await world.rejected()
        correct(world, source(secret=NEW))
        world.clock.advance(3 * 86_400)
        assert await world.rows(schema.rejections) == 1
        with pytest.raises(NotFound):
            await accept(world, kept.name)
        assert (await accept_all(world)).accepted_count == 0
        assert await world.rows(schema.receipts) == 0


async def test_whatever_the_store_says_about_rejections_the_next_are_kept(tmp_path):
    async with opened(tmp_path, source()) as world:
        write, errors = (
            world.db.write,
            [InvalidValue("one of the rows"), StoreBusy("full"), ValueError("a bug")],
        )

        async def fails(fn):
            if errors:
                raise errors.pop(0)
            return await write(fn)

        world.db.write = fails
        loop = asyncio.create_task(world.rejections.run())
        delivery = callrail({"id": 7, "timestamp": "2026-11-20T07:00:00Z"}, NEW)
        async with asyncio.timeout(10):
            while not await world.rows(schema.rejections):
                world.rejections.keep(source_of(source()), "post_call", delivery, "wrong")
                world.rejections.keep(source_of(source()), "post_call", delivery, "wrong")
                await asyncio.sleep(0.02)
                assert not loop.done()
        assert errors == []
        loop.cancel()


async def test_many_large_ones_are_written_in_parts(tmp_path):
    async with opened(tmp_path, source()) as world:
        write, parts = world.db.write, []

        async def counts(fn):
            before = await world.rows(schema.rejections)
            value = await write(fn)
            parts.append(await world.rows(schema.rejections) - before)
            return value

        world.db.write = counts
        delivery = callrail({"id": 7, "note": "x" * 400_000}, NEW)
        await reject(world, source(), *(delivery for _ in range(10)))
        assert parts == [3, 3, 3, 1]


async def test_one_that_is_stopped_while_it_rests_leaves_the_others_to_the_last_flush(tmp_path):
    async with opened(tmp_path, source()) as world:
        write = world.db.write

        async def slowly(fn):
            await asyncio.sleep(0.2)  # and rests four times as long
            return await write(fn)

        world.db.write = slowly
        delivery = callrail({"id": 7, "note": "x" * 400_000}, NEW)
        for _ in range(10):
            world.rejections.keep(source_of(source()), "post_call", delivery, "wrong")
        loop = asyncio.create_task(world.rejections.run())
        async with asyncio.timeout(10):
            while not await world.rows(schema.rejections):
                await asyncio.sleep(0.01)
        loop.cancel()
        world.db.write = write
        await world.rejections.flush()
        assert await world.rows(schema.rejections) == 10


async def test_a_flood_of_one_kind_keeps_no_other_kind_waiting(tmp_path):
    async with opened(tmp_path, source()) as world:
        write, kept = world.db.write, []
        delivery = callrail({"id": 7, "note": "x" * 400_000}, NEW)

        async def floods(fn):
            await write(fn)
            kept.append({rejection.reason for rejection in await world.rejected()})
            for _ in range(3 if len(kept) < 4 else 0):
                world.rejections.keep(source_of(source()), "post_call", delivery, "wrong")

        world.db.write = floods
        for reason in ["wrong"] * 6 + ["missing"]:
            world.rejections.keep(source_of(source()), "post_call", delivery, reason)
        await world.rejections.flush()
        assert "missing" in kept[1]
