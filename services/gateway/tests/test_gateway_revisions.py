"""Changes of a call: told twice they are one event, told again after another change they are a new one."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from gateway_world import opened
from trunkline_gateway import schema
from trunkline_gateway.events.deletion import delete_events
from trunkline_gateway.intake.kept import WEIGHT

from tests.integration.spanner_emulator import migrate, spanner_url  # noqa: F401 - a fixture


def modified(note, second=0, call=7):
    """A change as CallRail tells of it: by itself a change carries the call's own time."""
    return json.dumps({"id": call, "timestamp": f"2026-11-20T07:00:{second:02}Z", "note": note}).encode()


async def told(world, *notes, at_once):
    for note in notes:
        await world.receipt(modified(note), event_type="call_modified")
        if not at_once:
            await world.admit()
    await world.admit()


async def notes_of(world):
    """The note of every event, in the order in which they were received."""
    return [json.loads(job.body)["note"] for job in await worked_through(world)]


async def notes_by_call(world):
    notes = defaultdict(str)
    for job in await worked_through(world):
        body = json.loads(job.body)
        notes[body["id"]] += body["note"]
    return notes


async def worked_through(world):
    jobs = []
    while claimed := await world.claim():
        jobs += claimed
        for job in claimed:
            await world.finish(job)
    return sorted(jobs, key=lambda job: job.receive_time.ToDatetime())


@pytest.mark.parametrize("at_once", [True, False], ids=["one_batch", "batch_by_batch"])
@pytest.mark.parametrize(
    ("notes", "events"),
    [("aa", "a"), ("ab", "ab"), ("aba", "aba"), ("aabbaa", "aba"), ("abab", "abab"), ("abcab", "abcab")],
)
async def test_a_change_is_new_unless_it_was_the_last_one(tmp_path, notes, events, at_once):
    async with opened(tmp_path) as world:
        await told(world, *notes, at_once=at_once)
        assert await notes_of(world) == list(events)


async def test_of_another_call_the_same_words_are_no_redelivery(tmp_path):
    async with opened(tmp_path) as world:
        for number in (1, 2, 1):
            body = json.dumps({"id": number, "note": "same"}).encode()
            await world.receipt(body, event_type="call_modified")
        await world.admit()
        assert len(await world.listed()) == 2


async def test_every_receipt_is_linked_to_the_event_that_it_is(tmp_path):
    async with opened(tmp_path) as world:
        await told(world, *"aabbaa", at_once=True)
        counts = [(await world.show(event.name)).receipt_count for event in await world.listed()]
        assert counts == [2, 2, 2]


@pytest.mark.parametrize(
    "told_of",
    [
        "a1 b2 b3 a4 b5",
        "a5 a1 b3",
        "a5 a1 b3 a2 a6",
        "b1 b5 a6 a3",
        "a5 a7 a6 a3 b4 c2 a1",
        "b9 a5 a1 b3 a2 c4",
    ],
)
async def test_any_cut_into_batches_decides_the_same(tmp_path, told_of):
    """Each way to cut is a call of its own in one store, whose receipts are admitted before the next call's come."""
    told = told_of.split()
    received = sorted(told, key=lambda one: int(one[1:]))
    runs = "".join(note for note, _ in itertools.groupby(received, key=lambda one: one[0]))
    cuts = list(itertools.product([True, False], repeat=len(told) - 1))
    async with opened(tmp_path) as world:
        for call, cut_here in enumerate(cuts):
            for one, cut in zip(told, (*cut_here, True), strict=True):
                body = modified(one[0], call=call)
                await world.receipt(body, event_type="call_modified", received_at=at(int(one[1:])))
                if cut:
                    await world.admit()
        assert await notes_by_call(world) == dict.fromkeys(range(len(cuts)), runs)
        kept, there = await kept_and_there(world)
        assert kept == there


@pytest.mark.parametrize("at_once", [True, False], ids=["one_batch", "batch_by_batch"])
@pytest.mark.parametrize(
    ("told_of", "events"),
    [
        ("a1 b2 a1", "ab"),
        ("b2 a1 b2 a1", "ba"),
        ("a1 b2 a3", "aba"),
        ("a1 b2 a3 b2 a1 a3", "aba"),
        ("a1 b1 a1", "aba"),
        ("b2 a1 a1 b2", "ba"),
    ],
)
async def test_words_of_an_earlier_time_come_again_as_a_redelivery(tmp_path, told_of, events, at_once):
    async with opened(tmp_path) as world:
        for note, second in told_of.split():
            await world.receipt(modified(note, int(second)), event_type="call_modified")
            if not at_once:
                await world.admit()
        await world.admit()
        assert await notes_of(world) == list(events)


@pytest.mark.parametrize("notes", ["aba", "abba", "abab", "aabca"])
async def test_in_whatever_order_they_are_admitted_it_is_as_if_none_had_come_late(tmp_path, notes):
    """Out of the spool and from other shards receipts come late; each order is a call, admitted one by one."""
    runs = "".join(note for note, _ in itertools.groupby(notes))
    # Of the 120 orders of five every third: each note is at each place in some, and before and behind each other one.
    orders = list(itertools.permutations(range(len(notes))))[:: 1 if len(notes) < 5 else 3]
    async with opened(tmp_path) as world:
        for call, order in enumerate(orders):
            for place in order:
                body = modified(notes[place], call=call)
                await world.receipt(body, event_type="call_modified", received_at=at(place))
                await world.admit()
        links = await world.db.read(lambda conn: conn.execute(schema.event_receipts.select()).all())
        assert sorted(link.seq for link in links) == list(range(1, len(notes) * len(orders) + 1)), (
            "one event's each"
        )
        assert await notes_by_call(world) == dict.fromkeys(range(len(orders)), runs)


def at(second):
    return datetime(2026, 11, 20, 12, 0, second, tzinfo=UTC)


async def told_at(world, *batches):
    """Tell changes, a batch at a time: "a0 b2" is "a" as received at the full minute, and "b" two seconds later."""
    for batch in batches:
        for note, second in batch.split():
            await world.receipt(modified(note), event_type="call_modified", received_at=at(int(second)))
        await world.admit()


async def runs_of(world):
    """When each event was received first and last, and how many receipts tell of it."""
    links, events = schema.event_receipts, schema.events
    of_it = (links.c.tenant_id == events.c.tenant_id) & (links.c.event_id == events.c.event_id)
    query = (
        sa.select(events.c.received_at, events.c.told_at, sa.func.count())
        .select_from(events.join(links, of_it))
        .group_by(events.c.event_id, events.c.received_at, events.c.told_at)
        .order_by(events.c.received_at)
    )
    rows = await world.db.read(lambda conn: conn.execute(query).all())
    return [(first.second, last.second, count) for first, last, count in rows]


async def kept_and_there(world):
    """The bytes that are counted, and those that are there."""
    links, receipts = schema.event_receipts, schema.receipts
    there = sa.select(sa.func.sum(WEIGHT)).select_from(links.join(receipts, receipts.c.seq == links.c.seq))
    kept = sa.select(sa.func.sum(schema.kept_bytes.c.bytes))
    return await world.db.read(lambda conn: (conn.execute(kept).scalar(), conn.execute(there).scalar()))


async def test_told_twice_in_one_batch_a_change_was_told_last_by_the_second(tmp_path):
    async with opened(tmp_path) as world:
        await told_at(world, "a0 a2", "b1")
        assert await runs_of(world) == [(0, 0, 1), (1, 1, 1), (2, 2, 1)]
        assert await notes_of(world) == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("batches", "runs"),
    [
        (["a0", "a2", "a4", "a6", "b1"], [(0, 0, 1), (1, 1, 1), (2, 6, 3)]),
        (["a0 a2 a4 a6", "b3"], [(0, 2, 2), (3, 3, 1), (4, 6, 2)]),
        (["a0 a2 a4 a6 a8", "b1 c5"], [(0, 0, 1), (1, 1, 1), (2, 4, 2), (5, 5, 1), (6, 8, 2)]),
        (["a0 a2 a4 a6 a8", "c5", "b1"], [(0, 0, 1), (1, 1, 1), (2, 4, 2), (5, 5, 1), (6, 8, 2)]),
        (["a0 a4 a8", "a2 b3 a5"], [(0, 2, 2), (3, 3, 1), (4, 8, 3)]),
        (["a5", "a1", "b3"], [(1, 1, 1), (3, 3, 1), (5, 5, 1)]),
        (["a5 a6", "a1 b3"], [(1, 1, 1), (3, 3, 1), (5, 6, 2)]),
        (["a5", "a1", "a2", "b3", "a6"], [(1, 2, 2), (3, 3, 1), (5, 6, 2)]),
        (["a0 a5 a8", "b3", "b2 a4", "c1"], [(0, 0, 1), (1, 1, 1), (2, 3, 2), (4, 8, 3)]),
        (["a0 a6 a8", "b3 a4 c5"], [(0, 0, 1), (3, 3, 1), (4, 4, 1), (5, 5, 1), (6, 8, 2)]),
    ],
)
async def test_a_run_that_is_cut_gives_away_all_that_came_after(tmp_path, batches, runs):
    async with opened(tmp_path) as world:
        await told_at(world, *batches)
        assert await runs_of(world) == runs
        kept, there = await kept_and_there(world)
        assert kept == there, "what is kept is counted, bodies that were given back included"
        names = [event.name.rsplit("/", 1)[1] for event in await world.listed()]
        assert len(await notes_of(world)) == len(runs), "each event has a body"
        await world.db.write(lambda conn: delete_events(conn, "acme", names))
        assert (await kept_and_there(world))[0] == 0


async def test_a_cut_leaves_no_receipt_without_its_body(tmp_path):
    """Of two that tell the same in other bytes each keeps its own; what repeats the run's first gets that back."""
    other = b" " + modified("a")
    async with opened(tmp_path) as world:
        for body, second in ((modified("a"), 0), (other, 2), (modified("a"), 4), (modified("b"), 1)):
            await world.receipt(body, event_type="call_modified", received_at=at(second))
            await world.admit()
        receipts = schema.receipts
        query = sa.select(receipts.c.received_at, receipts.c.body).order_by(receipts.c.received_at)
        bodies = await world.db.read(lambda conn: conn.execute(query).all())
        assert [body for _, body in bodies] == [modified("a"), modified("b"), other, modified("a")]
        kept, there = await kept_and_there(world)
        assert kept == there


async def test_receipts_that_no_release_counted_are_not_counted_out(tmp_path):
    """On Spanner the links of those name no receipt, and the count began after them."""
    links = schema.event_receipts
    async with opened(tmp_path) as world:
        await told_at(world, "a0 a2", "b4")
        await world.db.write(lambda conn: conn.execute(links.update().values(receipt_id=None)))
        await world.db.write(lambda conn: conn.execute(schema.kept_bytes.update().values(bytes=0)))
        await told_at(world, "a6", "c1")
        kept, there = await kept_and_there(world)
        assert 0 < kept < there
        await notes_of(world)
        names = [event.name.rsplit("/", 1)[1] for event in await world.listed()]
        await world.db.write(lambda conn: delete_events(conn, "acme", names))
        assert (await kept_and_there(world))[0] == 0


async def test_on_spanner_a_run_is_cut_twice_by_one_batch(spanner_url, tmp_path):  # noqa: F811
    migrate(spanner_url, "trunkline_gateway.migrations")
    async with opened(tmp_path, url=spanner_url) as world:
        await told_at(world, "a0 a2 a4 a6 a8", "b1 c5")
        assert await runs_of(world) == [(0, 0, 1), (1, 1, 1), (2, 4, 2), (5, 5, 1), (6, 8, 2)]
        kept, there = await kept_and_there(world)
        assert kept == there
