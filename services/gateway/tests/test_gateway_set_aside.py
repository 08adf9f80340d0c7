"""What cannot be verified, read or written is one receipt's trouble: it is told of, and the others go on."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest
import sqlalchemy as sa
from gateway_conforms_story import receipt
from gateway_sources import resolved
from gateway_world import beside, body_of, opened
from test_gateway_receive import signed
from trunkline.gateway.v1 import event_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline_gateway import schema
from trunkline_gateway.events.retention import sweep
from trunkline_gateway.hooks import encodings
from trunkline_gateway.hooks.headers import pack
from trunkline_gateway.hooks.settings import MOST_BODY_BYTES
from trunkline_gateway.hooks.unverified import weight_of
from trunkline_gateway.intake import outcomes
from trunkline_gateway.intake.decision import BARE_KEPT_DAYS
from trunkline_gateway.providers.base import Delivery
from trunkline_gateway.providers.callrail.adapter import CallRail
from trunkline_gateway.receipts import UNVERIFIED
from trunkline_runtime.errors import FailedPrecondition
from trunkline_store.errors import StoreError, StoreUnavailable

from tests.integration.spanner_emulator import migrate, spanner_url  # noqa: F401 - a fixture

NOT_VERIFIED = {"tenant": "", "verdict": UNVERIFIED}


def lines(body, **more):
    headers = {name.decode(): value.decode() for name, value in signed(body)}
    return pack({**headers, **{name.replace("_", "-"): value for name, value in more.items()}})


def break_verifier(monkeypatch):
    """Have a bug in it that one body meets."""
    verify = CallRail.verify

    def broken(self, source, delivery):
        if delivery.body == body_of(2):
            raise ZeroDivisionError("a bug")
        return verify(self, source, delivery)

    monkeypatch.setattr(CallRail, "verify", broken)


async def test_a_bug_in_a_verifier_sets_one_receipt_aside_which_can_be_accepted_later(tmp_path, monkeypatch):
    async with opened(tmp_path) as world:
        with monkeypatch.context() as patched:
            break_verifier(patched)
            for number in (1, 2, 3):
                await world.receipt(body_of(number), headers=lines(body_of(number)), **NOT_VERIFIED)
            await world.admit()
            assert len(await world.listed()) == 2
            (kept,) = await world.rejected()
            assert kept.reason == "it could not be verified (ZeroDivisionError)"
            with pytest.raises(FailedPrecondition, match="ZeroDivisionError"):
                await world.events.AcceptRejection(pb.AcceptRejectionRequest(name=kept.name), None)
            every_one = pb.AcceptRejectionsRequest(parent="tenants/acme")
            assert (await world.events.AcceptRejections(every_one, None)).accepted_count == 0
        await world.events.AcceptRejection(pb.AcceptRejectionRequest(name=kept.name), None)
        await world.admit()
        assert len(await world.listed()) == 3


async def test_an_encoding_that_is_not_taken_is_a_reason_to_reject(tmp_path):
    async with opened(tmp_path) as world:
        headers = lines(body_of(1), content_encoding="br")
        await world.receipt(body_of(1), headers=headers, **NOT_VERIFIED)
        await world.receipt(body_of(2), headers=lines(body_of(2)), **NOT_VERIFIED)
        await world.admit()
        assert len(await world.listed()) == 1
        (kept,) = await world.rejected()
        assert "must be gzip" in kept.reason
        with pytest.raises(FailedPrecondition, match="must be gzip"):
            await world.events.AcceptRejection(pb.AcceptRejectionRequest(name=kept.name), None)


async def test_a_rejected_receipt_tells_how_large_it_was(tmp_path):
    async with opened(tmp_path) as world:
        await world.receipt(body_of(1), headers=lines(b"other"), **NOT_VERIFIED)
        await world.admit()
        shown = await receipt(world, f"{1:032x}")
        assert (shown.state, shown.size_bytes) == (event_pb2.RECEIPT_STATE_REJECTED, len(body_of(1)))


@pytest.mark.parametrize("rejected", [False, True], ids=["an_event", "a_rejection"])
async def test_a_receipt_that_cannot_even_be_a_dead_letter_is_still_found(tmp_path, monkeypatch, rejected):
    table = "insert_rejections" if rejected else "told_apart"
    write = getattr(outcomes, table)

    def broken(conn, rows, *more):
        seqs = [row["body"] if rejected else row.seq for row in rows]
        if 2 in seqs or body_of(2) in seqs:
            raise OverflowError
        return write(conn, rows, *more)

    monkeypatch.setattr(outcomes, table, broken)
    async with opened(tmp_path) as world:
        for number in (1, 2, 3):
            how = {"headers": lines(b"other"), "verdict": UNVERIFIED} if rejected else {}
            await world.receipt(body_of(number), **how)
        await world.admit()
        assert len(await (world.rejected() if rejected else world.listed())) == 2
        states = [(await receipt(world, f"{number:032x}")).state for number in (1, 2, 3)]
        other = event_pb2.RECEIPT_STATE_REJECTED if rejected else event_pb2.RECEIPT_STATE_EVENT
        assert states == [other, event_pb2.RECEIPT_STATE_SET_ASIDE, other]
        shown = await receipt(world, f"{2:032x}")
        assert (shown.size_bytes, shown.event) == (len(body_of(2)), "")
        assert await world.rows(schema.eventless_receipts) == (3 if rejected else 1)
        assert not await world.admission.step()


async def kept_bytes(world):
    total = sa.select(sa.func.coalesce(sa.func.sum(schema.kept_bytes.c.bytes), 0))
    return await world.db.read(lambda conn: conn.execute(total).scalar_one())


@pytest.mark.parametrize("days", [0, 3])
async def test_what_was_set_aside_counts_as_kept_and_goes_when_its_days_are_over(tmp_path, monkeypatch, days):
    def broken(conn, decisions, *more):
        if decisions:
            raise OverflowError
        return decisions

    monkeypatch.setattr(outcomes, "told_apart", broken)
    async with opened(tmp_path, events_days=days) as world:
        await world.receipt(body_of(1))
        await world.receipt(
            body_of(2), headers=lines(b"other"), **NOT_VERIFIED
        )  # of a rejection nothing is counted
        await world.admit()
        assert await kept_bytes(world) == weight_of("", b"", body_of(1))
        world.clock.advance((days or BARE_KEPT_DAYS) * 86_400.0)
        await sweep(world.db)
        assert await kept_bytes(world) == 0
        assert await world.rows(schema.eventless_receipts) == (0 if days else 1)
        assert await world.rows(schema.receipts) == (0 if days else 1)


async def test_the_last_that_becomes_of_a_receipt_is_what_the_store_holds_already(tmp_path, monkeypatch):
    """Of what its source says even the row by which it is found cannot be written."""
    insert = outcomes.add_kept

    def broken(conn, changes):
        if "acme" in changes:
            raise OverflowError
        return insert(conn, changes)

    source = resolved()
    monkeypatch.setattr(outcomes, "add_kept", broken)
    async with opened(tmp_path, source) as world:
        await world.receipt(body_of(1), headers=lines(body_of(1)), **NOT_VERIFIED)
        await world.admit()
        rows = await world.db.read(lambda conn: conn.execute(schema.eventless_receipts.select()).all())
        assert [(row.seq, row.tenant_id) for row in rows] == [(1, "")]
        world.clock.advance(BARE_KEPT_DAYS * 86_400.0)
        await sweep(world.db)
        assert await world.rows(schema.receipts) == 0


def fails_together(monkeypatch, most):
    """Have a store that takes only so many decisions at once, whichever they are; what it took, in order."""
    taken = []
    write = outcomes.told_apart

    def broken(conn, decisions, *more):
        if len(decisions) > most:
            raise StoreError("too many")
        taken.extend(decision.seq for decision in decisions)
        return write(conn, decisions, *more)

    monkeypatch.setattr(outcomes, "told_apart", broken)
    return taken


@pytest.mark.parametrize("most", [1, 3])
async def test_a_batch_that_fails_as_a_whole_is_written_in_parts_in_order(tmp_path, monkeypatch, most):
    taken = fails_together(monkeypatch, most)
    async with opened(tmp_path, resolved(), resolved("s-2")) as world:
        for number in range(20):
            await world.receipt(body_of(number), source="s-2" if number < 12 else "s-1")
        world.admission = world.new_admission(
            batch=16
        )  # sources take turns: some are taken before older ones
        assert await world.admission.step()
        assert taken == sorted(taken)
        assert await world.admission.step() is False
        assert len(await world.listed()) == await world.rows(schema.event_receipts) == 20
        assert await world.rows(schema.admitted_ahead) == 0
        await world.receipt(body_of(20))
        await world.admit()
        assert len(await world.listed()) == 21


async def test_on_spanner_too_a_batch_that_fails_as_a_whole_is_written_in_parts(
    spanner_url,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    migrate(spanner_url, "trunkline_gateway.migrations")
    fails_together(monkeypatch, 1)
    async with opened(tmp_path, url=spanner_url) as world:
        for number in range(5):
            await world.receipt(body_of(number))
        await world.admit()
        assert len(await world.listed()) == await world.rows(schema.event_receipts) == 5


async def test_while_a_batch_is_written_in_parts_another_admission_may_take_the_rest(tmp_path, monkeypatch):
    fails_together(monkeypatch, 2)
    async with opened(tmp_path) as world:
        for number in range(12):
            await world.receipt(body_of(number % 5))
        others = [world.new_admission(batch=8) for _ in range(3)]
        for _ in range(12):
            await asyncio.gather(*(admission.step() for admission in others))
        assert len(await world.listed()) == 5
        assert await world.rows(schema.event_receipts) == 12


async def test_so_many_opened_bodies_are_held_at_once(tmp_path, monkeypatch):
    held = []
    write = outcomes.told_apart

    def noted(conn, decisions, *more):
        held.append(sum(len(decision.body) for decision in decisions))
        return write(conn, decisions, *more)

    monkeypatch.setattr(outcomes, "told_apart", noted)
    size = 300 << 10

    async def receive(world, numbers):
        for number in numbers:
            packed = gzip.compress(json.dumps({"id": number, "x": "y" * size}).encode())
            await world.receipt(packed, headers=lines(packed, content_encoding="gzip"), **NOT_VERIFIED)

    async with opened(tmp_path, parts={"opened_bytes": 1 << 20}) as world:
        await receive(world, range(10))
        await world.admit()
        assert len(await world.listed()) == 10
        assert [round(bytes_ / size) for bytes_ in held] == [4, 4, 2]
        world.sources._forget("s-1")
        world.feed.down = True
        await receive(world, range(10, 20))
        await world.admit()
        held.clear()
        world.feed.down = False
        await world.admission.retry_undecided()
        assert len(await world.listed()) == 20
        assert [round(bytes_ / size) for bytes_ in held] == [4, 4, 2]


@pytest.mark.parametrize("bound", [{"read_bytes": 900}, {"opened_bytes": 600 << 10}])
async def test_rejections_are_accepted_by_bytes_and_opened_once(tmp_path, monkeypatch, bound):
    opened_bodies, writes = [], []
    open_ = encodings.decompressed

    def counted(body, most):
        opened_bodies.append(body)
        return open_(body, most)

    async def write(work, **lane):
        writes.append(work)
        return await type(world.db).write(world.db, work, **lane)

    monkeypatch.setattr(encodings, "decompressed", counted)
    async with opened(tmp_path, parts=bound) as world:
        for number in range(5):
            packed = gzip.compress(json.dumps({"id": number, "x": "y" * (300 << 10)}).encode())
            headers = {name.decode(): value.decode() for name, value in signed(packed)}
            delivery = Delivery(
                packed, {**headers, "content-encoding": "gzip"}, "https://x/", world.clock.now()
            )
            await world.keep_rejected(delivery)
        monkeypatch.setattr(world.db, "write", write)
        accepted = await world.events.AcceptRejections(
            pb.AcceptRejectionsRequest(parent="tenants/acme"), None
        )
        assert (accepted.accepted_count, accepted.rejected_count) == (5, 0)
        assert (len(opened_bodies), len(writes)) == (5, 3), "two, two and one"
        await world.admit()
        assert len(await world.listed()) == 5


@pytest.mark.parametrize("by", ["admission", "one_by_one"])
async def test_however_rejections_are_written_the_quota_of_the_tenant_holds(tmp_path, by, monkeypatch):
    source = resolved(rejections_bytes=50_000)
    async with opened(tmp_path, source) as world:
        bodies = [b"%d" % number + b"x" * 15_000 for number in range(6)]
        if by == "admission":
            await world.sources.resolve("s-1")
            for body in bodies:
                await world.receipt(body, headers=lines(b"other"), **NOT_VERIFIED)
            await world.admit()
        else:
            await broken_together(world, monkeypatch, source, bodies)
        assert len(await world.rejected()) == 3


async def broken_together(world, monkeypatch, source, bodies):
    """Keep rejections as a store does that takes them one by one only."""
    from gateway_deliveries import callrail
    from trunkline_gateway.intake import rejections
    from trunkline_store.errors import StoreError

    insert = rejections.insert_rejections

    def one_by_one(conn, rows, *bounds):
        if len(rows) > 1:
            raise StoreError("too many")
        return insert(conn, rows, *bounds)

    monkeypatch.setattr(rejections, "insert_rejections", one_by_one)
    await world.sources.resolve("s-1")
    await world.keep_rejected(*(callrail(body) for body in bodies), source=source)


async def test_a_body_is_opened_up_to_what_a_receivers_limit_can_be(tmp_path):
    def padded(size):
        return json.dumps({"id": 1, "x": "y" * size}).encode()

    async with opened(tmp_path) as world:
        for size in (MOST_BODY_BYTES - 100, MOST_BODY_BYTES + 1):
            packed = gzip.compress(padded(size))
            await world.receipt(packed, headers=lines(packed, content_encoding="gzip"), **NOT_VERIFIED)
        await world.admit()
        states = {event.state: event.last_error for event in await world.listed()}
        assert len(states) == 2
        assert f"larger than {MOST_BODY_BYTES} bytes" in states[event_pb2.EVENT_STATE_DEAD_LETTER]


async def nothing_is_left_undecided(world):
    """Run the gateway's tasks until everything is decided."""
    loop = asyncio.create_task(world.gateway.tasks.run())
    async with asyncio.timeout(20):
        while await world.rows(schema.undecided_receipts):
            await asyncio.sleep(0.05)
    loop.cancel()
    await asyncio.wait([loop])


async def test_a_receipt_left_undecided_while_the_store_counts_them_is_looked_at_again(tmp_path):
    async with opened(tmp_path) as world:
        world.feed.down = True
        await world.receipt(body_of(1), source="s-9", tenant="", verdict=UNVERIFIED)
        await world.admit()
        world.feed.down, world.feed.sources["s-9"] = False, resolved("s-9")
        read, late = world.db.read, []

        async def read_slowly(fn, **options):
            value = await read(fn, **options)
            if value == (0, 0) and not late:  # the count, taken before the other loop leaves one more
                late.append(True)
                world.feed.down = True
                await world.receipt(body_of(2), source="s-8", tenant="", verdict=UNVERIFIED)
                await world.admit()
            return value

        world.db.read = read_slowly
        await world.admission.retry_undecided()
        world.db.read = read
        assert late
        assert world.unverified.rows == 1
        world.feed.down, world.feed.sources["s-8"] = False, resolved("s-8")
        await nothing_is_left_undecided(world)


async def test_what_was_left_undecided_is_looked_at_again_though_the_rest_of_its_batch_failed(tmp_path):
    async with opened(tmp_path) as world:
        await world.admission.retry_undecided()  # as at a start with nothing undecided
        world.feed.down = True
        await world.receipt(body_of(1), source="s-9", tenant="", verdict=UNVERIFIED)
        await world.receipt(body_of(2))
        write, outcomes = (
            world.db.write,
            [ValueError("cannot be written as one"), None, StoreUnavailable("full")],
        )

        async def fails(fn, **lane):
            error = outcomes.pop(0) if outcomes else None
            if error is not None:
                raise error
            return await write(fn, **lane)

        world.db.write = fails
        with pytest.raises(StoreUnavailable):
            await world.admission.step()
        assert outcomes == []
        assert world.unverified.rows == 1
        world.feed.down, world.feed.sources["s-9"] = False, resolved("s-9")
        await nothing_is_left_undecided(world)


async def test_undecided_receipts_of_one_gateway_are_decided_by_another_and_by_one_alone(tmp_path):
    async with opened(tmp_path) as world, beside(world, tmp_path) as other:
        for gateway in (world, other):
            await gateway.admission.recount()
        world.feed.down = True
        for number in range(4):
            await world.receipt(body_of(number), source="s-9", tenant="", verdict=UNVERIFIED)
        await world.admit()
        assert (await world.rows(schema.tasks), world.unverified.rows) == (1, 4)
        await other.work()
        assert await world.rows(schema.undecided_receipts) == 4
        world.feed.down, world.feed.sources["s-9"] = False, resolved("s-9")
        world.clock.advance(2.0)
        await other.work()
        assert await world.rows(schema.undecided_receipts) == await world.rows(schema.tasks) == 0
        counting = asyncio.create_task(world.admission.run())
        async with asyncio.timeout(20):
            while world.unverified.rows:
                await asyncio.sleep(0.01)
        counting.cancel()


async def test_a_fault_that_passes_sets_nothing_aside(tmp_path):
    async with opened(tmp_path) as world:
        for number in range(4):
            await world.receipt(body_of(number))
        write, faults = world.db.write, [StoreUnavailable("full") for _ in range(3)]

        async def fails(fn, **lane):
            if faults:
                raise faults.pop()
            return await write(fn, **lane)

        world.db.write = fails
        with pytest.raises(StoreUnavailable):
            await world.admission.step()
        assert len(faults) == 2
        faults.clear()
        await world.admit()
        assert len(await world.listed()) == 4
