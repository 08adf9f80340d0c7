"""Admission over a real store: each receipt becomes what it is, once, whatever is repeated."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from gateway_sources import SECRET, Feed, resolved
from gateway_world import MIGRATIONS, make_config, new_file, nobody
from trunkline.gateway.v1 import event_pb2, event_service_pb2
from trunkline_gateway import schema
from trunkline_gateway.app import admission_of, build
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.intake import outcomes
from trunkline_gateway.intake.admission import PART, Admission
from trunkline_gateway.intake.backlog import MOST_BYTES, ByCursor, SourceTurns, Undecided
from trunkline_gateway.intake.rejections import Rejections
from trunkline_gateway.providers import bodies
from trunkline_gateway.providers.callrail.adapter import CallRail
from trunkline_gateway.receipts import UNVERIFIED, VERIFIED, Fresh, NewReceipt, Receipt
from trunkline_jobs import Tasks
from trunkline_runtime.api import paging
from trunkline_runtime.errors import DeadlineExceeded, InvalidArgument, NotFound
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_store import Database, Pressure, StoreUnavailable
from trunkline_store.testing.schema import differences

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BODY = json.dumps(
    {"id": 766970532, "resource_id": "CAL1", "timestamp": "2026-11-20T07:00:00.000-05:00"}
).encode()


class World:
    def __init__(self, gateway, feed):
        self.gateway, self.feed, self.db, self.events = gateway, feed, gateway.db, gateway.events
        self.appender = gateway.db.appender(schema.receipts)
        self.ready, self.unverified = 0, gateway.limits.unverified
        self.admission = self.new_admission()
        self.count = 0

    def new_admission(self, batch=4, pace=MACHINE, fresh=None):
        """An admission of a process that knows no source yet."""
        gateway = self.gateway
        self.sources = SourceMap(self.feed, None, rest_seconds=0)
        return admission_of(
            gateway.config, gateway.db, gateway.queue, Tasks(gateway.db, schema.tasks), self.sources,
            gateway.limits, self.on_ready, batch=batch, fresh=fresh, pace=pace,
        )  # fmt: skip

    def on_ready(self, tenants):
        self.ready += 1

    async def receipt(self, body=BODY, event_type="post_call", source="s-1", verdict=VERIFIED, headers=b""):
        self.count += 1
        tenant = "acme" if verdict == VERIFIED else ""
        at = NOW + timedelta(seconds=self.count)
        receipt_id = f"{self.count:032x}"
        await self.appender.append(
            (
                receipt_id,
                source,
                tenant,
                event_type,
                at,
                verdict,
                "application/json",
                "https://x/",
                headers,
                body,
            )
        )
        return receipt_id

    async def admit(self):
        while await self.admission.step():
            pass

    async def listed(self, **request):
        return (
            await self.events.ListEvents(
                event_service_pb2.ListEventsRequest(parent="tenants/acme", **request), None
            )
        ).events

    async def story(self, name, **request):
        return await self.events.GetEvent(event_service_pb2.GetEventRequest(name=name, **request), None)

    async def rejections(self):
        request = event_service_pb2.ListRejectionsRequest(parent="tenants/acme")
        return (await self.events.ListRejections(request, None)).rejections

    async def rows(self, table):
        return await self.db.read(
            lambda conn: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        )


@asynccontextmanager
async def opened(folder, *sources):
    config = make_config(folder, keep_rejections=2, max_unverified=1_000, max_unverified_bytes=1 << 20)
    url, feed = await new_file(folder), Feed(*sources)
    async with (
        await Database.open(url, schema.metadata, migrations=MIGRATIONS) as db,
        build(config, db=db, feed=feed, tell_call=nobody) as gateway,
    ):
        yield World(gateway, feed)


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path, resolved()) as world:
        yield world


def signature(body: bytes) -> bytes:
    return b"signature: " + base64.b64encode(hmac.digest(SECRET.encode(), body, hashlib.sha1))


async def test_the_migrations_make_the_declared_tables(world):
    assert await world.db.read(lambda conn: differences(conn, schema.metadata)) == []


async def test_the_names_of_a_receipts_columns_are_the_tables(world):
    assert NewReceipt._fields == world.appender.columns
    assert Receipt._fields == ("seq", *NewReceipt._fields)


@pytest.mark.parametrize("body", [BODY, b'{"id": 1, "odd": "\xff"}'], ids=["plain", "careless"])
async def test_a_body_is_parsed_once_between_receipt_and_event(world, monkeypatch, body):
    parsed, parse = [], bodies.parse_json
    monkeypatch.setattr(bodies, "parse_json", lambda body: parsed.append(body) or parse(body))
    await world.receipt(body)
    await world.admit()
    assert (len(parsed), await world.rows(schema.events)) == (1, 1)


async def test_a_receipt_becomes_an_event_with_its_job(world):
    receipt_id = await world.receipt()
    await world.admit()
    (event,) = await world.listed()
    assert event.state == event_pb2.EVENT_STATE_WAITING
    assert event.source == "tenants/acme/sources/s-1"
    assert event.event_time.ToDatetime(UTC) == NOW
    story = await world.story(event.name, view=event_service_pb2.EVENT_VIEW_FULL)
    assert [r.receipt_id for r in story.receipts] == [receipt_id]
    assert story.body == BODY
    assert (await world.story(event.name)).body == b""
    assert world.ready == 1


async def test_a_redelivery_adds_a_receipt_in_the_same_batch_and_in_a_later_one(world):
    first, second = await world.receipt(), await world.receipt()
    await world.admit()
    third = await world.receipt()
    await world.admit()
    (event,) = await world.listed()
    story = await world.story(event.name)
    assert [r.receipt_id for r in story.receipts] == [first, second, third]
    assert story.receipt_count == 3
    assert await world.rows(schema.jobs) == 1


@pytest.mark.parametrize("told", [set(), {1, 2, 3, 4, 5, 6}, {2, 3}, {1, 2, 5, 6}, {4}, {1, 6}])
async def test_what_was_just_committed_is_not_read_and_nothing_is_missed(world, told):
    fresh = Fresh()

    def tell(first, rows):
        """Tell of some, and call them by another type than the store does."""
        if first in told:
            fresh.stored(first, [NewReceipt(*row)._replace(event_type="pre_call") for row in rows])

    world.appender.tell(tell)
    admission = world.new_admission(fresh=fresh)
    for number in range(6):
        await world.receipt(BODY.replace(b"766970532", b"%d" % number).replace(b"CAL1", b"CAL%d" % number))
    while await admission.step():
        pass
    types = {event.provider_call_id: event.event_type for event in await world.listed()}
    assert types == {f"CAL{seq - 1}": "pre_call" if seq in told else "post_call" for seq in range(1, 7)}
    assert (await world.rows(schema.events), await world.rows(schema.jobs)) == (6, 6)
    await admission.step()
    assert not any(map(fresh.get, range(10))), "what was taken is forgotten"


def test_only_so_much_of_what_was_just_committed_is_kept():
    fresh = Fresh(most_bytes=10_000)
    for seq in range(1, 50):
        fresh.stored(seq, [("r", "s-1", "acme", "e", NOW, VERIFIED, "", "", b"", b"x" * 1_000)])
    kept = [seq for seq in range(1, 50) if fresh.get(seq)]
    assert kept == [1, 2, 3, 4, 5]
    fresh.forget(3)
    fresh.stored(50, [("r", "s-1", "acme", "e", NOW, VERIFIED, "", "", b"", b"")])
    assert [seq for seq in range(1, 60) if fresh.get(seq)] == [4, 5, 50]


def test_notes_are_given_once_in_order_and_only_without_a_gap():
    fresh = Fresh(most_bytes=0)
    row = ("r", "s-1", "acme", "e", NOW, VERIFIED, "", "", b"12", b"345")
    fresh.stored(1, [row, row])
    fresh.stored(4, [row])
    assert not fresh.get(1)
    assert list(fresh.noted(0, 1)) == [(1, "s-1", VERIFIED, 5)]
    assert list(fresh.noted(1, 9)) == [(2, "s-1", VERIFIED, 5)], "3 is known to the store alone"
    assert list(fresh.noted(2, 9)) == []
    assert list(fresh.noted(3, 9)) == [(4, "s-1", VERIFIED, 5)]
    fresh.stored(5, [row, row])
    assert list(fresh.noted(6, 9)) == [], "what was looked at by other means is dropped"
    assert list(fresh.noted(4, 9)) == []


async def test_a_crash_before_or_after_the_commit_repeats_nothing(world):
    for _ in range(6):
        await world.receipt()
    real = world.db.write

    async def refuse(fn, **kwargs):
        raise ConnectionError

    async def lose_the_reply(fn, **kwargs):
        await real(fn, **kwargs)
        raise ConnectionError

    for failing in (refuse, lose_the_reply):
        world.db.write = failing
        with pytest.raises(ConnectionError):
            await world.admission.step()
        world.db.write = real
        world.admission = world.new_admission()  # the process that comes up again
    await world.admit()
    (event,) = await world.listed()
    assert (await world.story(event.name)).receipt_count == 6


async def test_two_admissions_at_once_admit_each_receipt_once(world):
    import asyncio

    for n in range(20):
        await world.receipt(json.dumps({"id": n % 7, "timestamp": "2026-11-20T07:00:00Z"}).encode())
    others = [world.new_admission() for _ in range(3)]
    for _ in range(20):
        await asyncio.gather(*(a.step() for a in others))
    assert len(await world.listed()) == 7
    assert await world.rows(schema.event_receipts) == 20


async def test_a_malformed_body_is_a_dead_letter_with_the_reason_and_the_next_receipt_is_admitted(world):
    await world.receipt(b"\xff not json")
    await world.receipt(event_type="no_such_type")
    await world.receipt()
    await world.admit()
    dead = await world.listed(filter="state = dead_letter")
    assert len(dead) == 2
    assert all(event.last_error for event in dead)
    assert any("post_call" in event.last_error for event in dead), "it says which event types there are"
    assert len(await world.listed(filter="state = waiting")) == 1


@pytest.mark.parametrize("body", [b'{"a":' * 70 + b"1" + b"}" * 70, b'{"a":[' + b"1," * 60_000 + b"1]}"])
async def test_a_body_that_holds_too_much_is_a_dead_letter_that_names_the_bound(world, body):
    await world.receipt(body)
    await world.receipt()
    await world.admit()
    (dead,) = await world.listed(filter="state = dead_letter")
    assert "at most" in dead.last_error
    assert len(await world.listed(filter="state = waiting")) == 1


async def test_an_unverified_receipt_is_verified_when_the_tenant_service_is_back(world):
    world.feed.down = True
    await world.receipt(verdict=UNVERIFIED, headers=signature(BODY))
    await world.receipt(verdict=UNVERIFIED, headers=b"signature: AAAA")
    await world.receipt(verdict=UNVERIFIED, source="s-unknown")
    await world.admit()
    assert await world.listed() == []
    await world.admission.retry_undecided()
    assert world.unverified.rows == 3
    world.feed.down = False
    await world.admission.retry_undecided()
    assert world.unverified.rows == 0
    (event,) = await world.listed()
    assert (await world.story(event.name)).receipts[0].verdict == event_pb2.VERDICT_UNVERIFIED
    (rejection,) = await world.rejections()
    assert rejection.source == "tenants/acme/sources/s-1"
    assert await world.rows(schema.rejections) == 2, "the one without a source is kept for operators"
    assert await world.rows(schema.undecided_receipts) == 0


async def test_undecided_receipts_do_not_hold_up_the_others(world):
    await world.sources.resolve("s-1")
    world.feed.down = True
    await world.receipt(verdict=UNVERIFIED, source="s-2")
    await world.receipt()
    await world.admit()
    assert len(await world.listed()) == 1


async def test_a_verified_receipt_of_a_source_that_was_deleted_is_a_visible_dead_letter(world):
    world.feed.sources.clear()
    await world.receipt()
    await world.admit()
    (event,) = await world.listed()
    assert (event.state, event.last_error) == (event_pb2.EVENT_STATE_DEAD_LETTER, "the source was deleted")


async def test_rejections_are_bounded_per_source_and_the_latest_stay(world):
    from trunkline_gateway.hooks.sources import source_of
    from trunkline_gateway.providers.base import Delivery

    kept = Rejections(world.db, keep_per_source=2)
    for n in range(5):
        delivery = Delivery(
            b"x" * 70_000,
            {"authorization": "secret", "x-api-key": "secret", "signature": "1"},
            "https://x/",
            NOW + timedelta(seconds=n),
        )
        kept.keep(source_of(resolved()), f"type_{n}", delivery, "wrong")
        await kept.flush()
    listed = await world.rejections()
    assert [r.event_type for r in listed] == ["type_4", "type_3"]
    assert dict(listed[0].headers) == {"signature": "1"}
    assert (len(listed[0].body), listed[0].size_bytes) == (65_536, 70_000)


async def test_lists_page_through_everything_once_while_more_arrives(world):
    for n in range(7):
        await world.receipt(json.dumps({"id": n, "timestamp": "2026-11-20T07:00:00Z"}).encode())
    await world.admit()
    names, token = [], ""
    while True:
        request = event_service_pb2.ListEventsRequest(parent="tenants/acme", page_size=3, page_token=token)
        page = await world.events.ListEvents(request, None)
        names += [event.name for event in page.events]
        token = page.next_page_token
        if not token:
            break
        await world.receipt(
            json.dumps({"id": 100 + len(names), "timestamp": "2026-11-20T07:00:00Z"}).encode()
        )
        await world.admit()
    assert len(names) == len(set(names)) == 7
    with pytest.raises(InvalidArgument):
        await world.listed(page_token="nonsense")
    with pytest.raises(InvalidArgument):
        await world.listed(filter="colour = red")


@pytest.mark.parametrize("key", [["a", "b"], [1, 2], ["a"], [], [NOW, 5], [None, "b"], [NOW, "b", "c"]])
async def test_a_page_token_of_the_wrong_shape_is_the_callers_mistake(world, key):
    token = paging.encode(key, paging.digest_of_request("tenants/acme", ""))
    with pytest.raises(InvalidArgument, match="page_token"):
        await world.listed(page_token=token)


async def test_another_tenants_event_is_not_found(world):
    await world.receipt()
    await world.admit()
    (event,) = await world.listed()
    with pytest.raises(NotFound):
        await world.story(event.name.replace("acme", "globex"))


@pytest.mark.parametrize(
    ("pressure", "lots"),
    [
        # What comes in small numbers is looked at in small numbers, until it does not.
        ([Pressure.SOME] * 9, [32, 256]),
        ([Pressure.CROWD] * 12, [32] * 5),
        ([Pressure.SOME] + [Pressure.CROWD] * 12, [32] * 5),
        ([Pressure.NONE] * 9, [32, 2_048]),
    ],
)
async def test_it_admits_as_many_at_once_as_the_stores_pressure_allows(world, monkeypatch, pressure, lots):
    pressure = iter(pressure)
    read = ByCursor.read
    asked, empty = [], asyncio.Event()

    def noted(self, conn, limit):
        asked.append(limit)
        batch = read(self, conn, limit)
        if len(batch.rows) < limit:
            empty.set()
        return batch

    for number in range(150):
        await world.receipt(body=BODY.replace(b"766970532", b"%d" % number))
    monkeypatch.setattr(ByCursor, "read", noted)
    monkeypatch.setattr(type(world.db), "pressure", property(lambda db: next(pressure)))
    admission = world.new_admission(
        batch=0,
        # With a clock that stands still no write takes long.
        pace=Pace(clock=lambda: 0.0, intervals={"admission.retry": 99.0, "admission.recount": 99.0}),
    )
    admission.soon()
    running = asyncio.create_task(admission.run())
    await asyncio.wait_for(empty.wait(), 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert asked[: len(lots)] == lots


async def test_a_receipt_that_comes_alone_is_admitted_at_once_and_those_of_a_stream_together(world):
    """Each batch changes a page of every table and index, however few receipts it has."""
    clock, waits, come = [100.0], [], asyncio.Event()

    async def sleep(seconds):
        if seconds > 1:  # that of the count
            await asyncio.sleep(seconds)
        waits.append(seconds)
        clock[0] += seconds / 4
        come.set()

    intervals = {"admission.gather": 8.0 / 1024, "admission.retry": 99.0, "admission.recount": 99.0}
    admission = world.new_admission(pace=Pace(clock=lambda: clock[0], sleep=sleep, intervals=intervals))
    running = asyncio.create_task(admission.run())

    async def admitted(count):
        async with asyncio.timeout(10):
            while await world.rows(schema.events) < count:
                await asyncio.sleep(0)

    await world.receipt(BODY)
    admission.soon()
    await admitted(1)
    assert waits == []
    await world.receipt(BODY.replace(b"CAL1", b"CAL2"))
    admission.soon()
    async with asyncio.timeout(10):
        await come.wait()
    await admitted(2)
    assert waits == [8.0 / 1024]
    clock[0] += 1
    await world.receipt(BODY.replace(b"CAL1", b"CAL3"))
    admission.soon()
    await admitted(3)
    assert waits == [8.0 / 1024]
    running.cancel()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_large_batch_is_written_part_by_part_in_order(world, monkeypatch, fails):
    count = 2 * PART + 100
    for start in range(0, count, 500):
        some = range(start, min(start + 500, count))
        await asyncio.gather(*(world.receipt(BODY.replace(b"CAL1", b"CAL%d" % n)) for n in some))
    take, parts = ByCursor.take, []

    def noted(self, conn, batch):
        parts.append([row.seq for row in batch.rows])
        if fails and len(parts) == 2:
            raise StoreUnavailable("full")
        return take(self, conn, batch)

    monkeypatch.setattr(ByCursor, "take", noted)
    monkeypatch.setattr(type(world.db), "pressure", Pressure.NONE)
    admission = world.new_admission(batch=4 * PART)
    while True:
        try:
            if not await admission.step():
                break
        except StoreUnavailable:
            continue
    written = [part for number, part in enumerate(parts) if not fails or number != 1]
    assert [seq for part in written for seq in part] == list(range(1, count + 1))
    assert max(map(len, parts)) == PART
    assert await world.rows(schema.events) == await world.rows(schema.event_receipts) == count
    assert await world.rows(schema.admitted_ahead) == 0


async def test_undecided_receipts_have_one_task_and_are_read_only_when_they_can_be_told(world, monkeypatch):
    world.feed.down = True
    for n in range(9):
        await world.receipt(verdict=UNVERIFIED, source=f"s-{n}")
    await world.admit()
    assert world.unverified.rows == 9, "all of them, not a batch of four"
    admission, read = world.admission, []
    real = Undecided.read
    monkeypatch.setattr(
        Undecided,
        "read",
        lambda self, conn, sources, limit: read.append(set(sources)) or real(self, conn, sources, limit),
    )
    await admission.retry_undecided()
    assert read == [], "no body is read while nobody can be asked"
    assert await world.rows(schema.tasks) == 1, "however many there are, one task looks at them"
    world.feed.down = False
    await admission.retry_undecided()
    assert world.unverified.rows == world.unverified.bytes == 0
    assert set().union(*read) == {f"s-{n}" for n in range(9)}
    assert await world.rows(schema.undecided_receipts) == 0


async def test_unknown_sources_of_a_batch_are_asked_for_side_by_side_and_hold_nobody_up(world):
    asked, most = 0, 0

    async def slow(source_id):
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        try:
            await asyncio.sleep(0.5)
        finally:
            asked -= 1
        raise DeadlineExceeded("no answer", reason="TIMEOUT")

    admission = world.new_admission(batch=256)
    await world.sources.resolve("s-1")
    world.feed.resolve = slow
    for n in range(100):
        await world.receipt(verdict=UNVERIFIED, source=f"guess-{n}")
    await world.receipt()
    began = time.monotonic()
    while await admission.step():
        pass
    assert time.monotonic() - began < 10, "half a second each would be 50"
    assert len(await world.listed()) == 1
    assert 1 < most <= 16


async def test_a_redelivery_does_not_keep_its_body_again_and_says_how_large_it_was(world):
    other = BODY + b" "  # the same event in other bytes
    await world.receipt()
    await world.receipt()
    await world.admit()
    for body in (BODY, other):
        await world.receipt(body)
    await world.admit()
    kept = sa.select(schema.receipts.c.body).order_by(schema.receipts.c.seq)
    assert await world.db.read(lambda conn: conn.execute(kept).scalars().all()) == [BODY, b"", b"", other]
    (event,) = await world.listed()
    story = await world.story(event.name, view=event_service_pb2.EVENT_VIEW_FULL)
    assert len(BODY) == 86
    assert [receipt.size_bytes for receipt in story.receipts] == [86, 86, 86, 87]
    assert story.body == BODY


async def test_a_rejected_receipt_does_not_keep_a_second_copy_of_its_body(world):
    await world.receipt(b"x" * 5_000, verdict=UNVERIFIED, headers=b"signature: AAAA")
    await world.admit()
    assert (await world.rejections())[0].size_bytes == 5_000
    assert (
        await world.db.read(lambda conn: conn.execute(sa.select(schema.receipts.c.body)).scalar_one()) == b""
    )


def numbered_body(number):
    return BODY.replace(b"766970532", b"%d" % number).replace(b"CAL1", b"CAL%d" % number)


@pytest.mark.parametrize("written", [False, True], ids=["cannot_be_read", "cannot_be_written"])
async def test_a_poison_receipt_is_a_dead_letter_and_the_others_are_admitted(world, monkeypatch, written):
    if written:
        apart = outcomes.told_apart

        def poison(conn, decisions, *given):
            if any(d.seq == 2 and d.event["event_time"] for d in decisions):
                raise OverflowError("date value out of range")
            return apart(conn, decisions, *given)

        monkeypatch.setattr(outcomes, "told_apart", poison)
    else:
        identify = CallRail.identify

        def poison(self, source, event_type, delivery):
            if b"766970532" in delivery.body:
                raise OverflowError("date value out of range")
            return identify(self, source, event_type, delivery)

        monkeypatch.setattr(CallRail, "identify", poison)
    for number in (1, 766970532, 3):
        await world.receipt(numbered_body(number))
    await world.admit()
    told = {event.state: event.last_error for event in await world.listed()}
    assert len(await world.listed()) == 3
    why = "it could not be kept" if written else "the body could not be read (OverflowError)"
    assert why in told[event_pb2.EVENT_STATE_DEAD_LETTER]
    assert not await world.admission.step()


async def test_the_loop_goes_on_whatever_a_step_raises(world, monkeypatch):
    steps = []

    async def step(self):
        steps.append(1)
        if len(steps) < 2:
            raise ZeroDivisionError
        done.set()
        return False

    done = asyncio.Event()
    monkeypatch.setattr(Admission, "step", step)
    pace = Pace(
        sleep=lambda _seconds: asyncio.sleep(0),
        intervals={"admission.retry": 0.01, "admission.recount": 99.0},
    )
    running = asyncio.create_task(world.new_admission(pace=pace).run())
    await asyncio.wait_for(done.wait(), 5)
    running.cancel()


async def numbered(world, source, *numbers):
    for number in numbers:
        await world.receipt(numbered_body(number), source=source)


async def test_a_flood_of_one_source_delays_only_itself(tmp_path):
    """Also of one request that is sent again and again, and across a restart between any two steps."""
    async with opened(tmp_path, resolved("flood"), resolved("quiet"), resolved("other")) as world:
        await numbered(world, "flood", *range(300))
        await numbered(world, "flood", *[7] * 300)
        await numbered(world, "quiet", 9001, 9002, 9003)
        await numbered(world, "other", 9101)
        admission = world.new_admission(batch=40)
        await admission.step()  # a small look
        await admission.step()
        query = sa.select(schema.events.c.event_id).where(schema.events.c.source_id != "flood")
        early = await world.db.read(lambda conn: conn.execute(query).scalars().all())
        assert len(early) == 4, "the quiet ones do not wait for the 600 before them"
        assert await world.rows(schema.admitted_ahead) == 4
        more = True
        while more:
            more = await world.new_admission(batch=40).step()  # another process each time
        await world.admit()
        assert await world.rows(schema.event_receipts) == 604
        assert await world.rows(schema.events) == 304
        assert await world.rows(schema.admitted_ahead) == 0
        query = sa.select(schema.event_receipts.c.seq)
        linked = await world.db.read(lambda conn: conn.execute(query).scalars().all())
        assert sorted(linked) == list(range(1, 605)), "none is lost, none is skipped, none is taken twice"


async def test_a_turn_is_bounded_by_bytes(world, monkeypatch):
    sizes = []
    read = ByCursor.read

    def noted(self, conn, limit):
        batch = read(self, conn, limit)
        sizes.append(sum(len(row.body) for row in batch.rows))
        return batch

    monkeypatch.setattr(ByCursor, "read", noted)
    for number in range(6):
        await world.receipt(numbered_body(number)[:-1] + b', "note": "' + b"x" * 700_000 + b'"}')
    await world.admit()
    assert await world.rows(schema.events) == 6
    assert max(sizes) <= MOST_BYTES


async def test_ids_that_strangers_make_up_are_one_source_among_the_others(world):
    turns = SourceTurns()
    for seq in range(1, 1001):
        turns.add("", seq, 10)
    turns.add("quiet", 1001, 10)
    assert turns.chosen(4) == [1, 1001, 2, 3]
    for number in range(200):
        await world.receipt(source=f"made-up-{number}", verdict=UNVERIFIED)
    await numbered(world, "s-1", 1)
    admission = world.new_admission(batch=40)
    await world.sources.resolve("s-1")  # as it was when its receipt was verified
    await admission.step()
    await admission.step()
    assert len(await world.listed()) == 1


async def test_each_sources_receipts_come_in_their_order_and_the_sources_in_turns():
    turns = SourceTurns()
    for seq in range(1, 31):
        turns.add("abc"[seq % 3] if seq < 20 else "a", seq, 10)
    seen = []
    while len(turns):
        chosen = turns.chosen(4)
        seen += chosen
        assert turns.first_but(chosen) == min(set(range(1, 31)) - set(seen), default=None)
        turns.remove(chosen)
    assert sorted(seen) == list(range(1, 31))
    for source in "abc":
        mine = [seq for seq in seen if ("abc"[seq % 3] if seq < 20 else "a") == source]
        assert mine == sorted(mine)
