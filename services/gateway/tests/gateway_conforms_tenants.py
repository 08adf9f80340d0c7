"""Checks of whose the data is, and when it goes: each statement carries its tenant, retention, deletion."""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager

import sqlalchemy as sa
from gateway_conformance import check
from gateway_deliveries import callrail
from gateway_sources import resolved
from gateway_world import PARENT, body_of
from sqlalchemy.engine import Engine
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.tenant.v1 import tenant_pb2
from trunkline_gateway import schema
from trunkline_gateway.events.retention import sweep
from trunkline_gateway.events.tenant_deletion import purge_here
from trunkline_gateway.receipts import UNVERIFIED
from trunkline_runtime.identity import access
from trunkline_store.records.tombstones import bury

DAY = 86_400.0
BY_KEY = {
    "receipts",
    "eventless_receipts",
    "undecided_receipts",
    "jobs",
    "jobs_turns",
    "tasks",
    "tasks_turns",
}
"""Tables whose key says no tenant: what a transaction found under the tenant it may delete there by its key."""
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN)(?:@\{[^}]*\})? (\w+)(?:@\{[^}]*\})?(?: AS (\w+))?")
_NOT_DATA = ("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "PRAGMA", "SELECT 1", "SELECT CURRENT_TIMESTAMP")


# These say no tenant, or not yet; they are reached by the number that a row of the tenant's names.
_REACHED = {
    "receipts": re.compile(r"receipts\.seq = (?:event_receipts|eventless_receipts|events)\."),
    "cursors": re.compile(r"cursors\.name = "),
    "undecided_receipts": re.compile(r"receipts\.seq = undecided_receipts\.seq"),
}
_NEVER = re.compile("(?!)")


def lacks_tenant(statement):
    """Tell whether a statement touches a tenant's rows without saying which tenant's."""
    text = " ".join(statement.split())
    if text.startswith(_NOT_DATA):
        return False
    if text.startswith("INSERT"):
        return "tenant_id" not in re.split(r" VALUES | SELECT ", text)[0]
    named = {alias or table: table for table, alias in _TABLE.findall(text) if table != "UNNEST"}
    if text.startswith("DELETE") and set(named.values()) <= BY_KEY:
        return False
    where = re.split(r" (?:ON|WHERE) ", text, maxsplit=1)[-1]
    bare = len(named) == 1
    without = [
        table
        for alias, table in named.items()
        if not re.search(rf"\b{alias}\.tenant_id (?:=|IN)", where)
        and not (bare and re.search(r"(?<![.\w])tenant_id (?:=|IN)", where))
        and not _REACHED.get(table, _NEVER).search(where)
    ]
    return bool(without) or not named


def assert_each_says_whose(statements):
    without = [statement for statement in statements if lacks_tenant(statement)]
    assert not without, "\n".join(without)


@contextmanager
def statements():
    """Give a list that every statement is added to."""
    seen = []

    def listen(conn, cursor, statement, parameters, context, executemany):
        seen.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield seen
    finally:
        sa.event.remove(Engine, "before_cursor_execute", listen)


async def requests(world):
    """One request or several for each method of EventService; those that write take their longest way."""
    dead, done = await world.dead(1), await world.done(2)
    await world.keep_rejected(*(callrail(body_of(number)) for number in (3, 4, 7)))
    first, _, third = await world.rejected()
    cancelled = await world.dead(5)
    receipt = (await world.show(done)).receipts[0].receipt_id
    await world.receipt(body_of(6))
    waiting = f"{world.receipts:032x}"
    found = f'receipt_id = "{receipt}" AND call = c1 AND provider_call_id = "1"'
    started = await world.replay_all(filter="event_type = none")
    full = pb.EVENT_VIEW_FULL
    state = 'state = dead_letter AND source = "s-1" AND receive_time > "2020-01-01T00:00:00Z"'
    return [
        ("GetEvent", pb.GetEventRequest(name=done, view=full)),
        ("ListEvents", pb.ListEventsRequest(parent=PARENT, filter=state)),
        ("ListEvents", pb.ListEventsRequest(parent=PARENT, filter=found, order_by="update_time")),
        ("GetReceipt", pb.GetReceiptRequest(name=f"{PARENT}/receipts/{receipt}")),
        ("GetReceipt", pb.GetReceiptRequest(name=f"{PARENT}/receipts/{waiting}")),
        ("ListReceipts", pb.ListReceiptsRequest(parent=done)),
        ("ListReceipts", pb.ListReceiptsRequest(parent=f"{PARENT}/sources/s-1")),
        ("GetRejection", pb.GetRejectionRequest(name=first.name)),
        ("ListReplays", pb.ListReplaysRequest(parent=PARENT)),
        ("CancelEvent", pb.CancelEventRequest(name=cancelled)),
        ("ListDeadLetters", pb.ListDeadLettersRequest(parent=PARENT)),
        ("ListRejections", pb.ListRejectionsRequest(parent=PARENT)),
        ("ReplayEvent", pb.ReplayEventRequest(name=dead)),
        ("ReplayEvents", pb.ReplayEventsRequest(parent=PARENT, dry_run=True, force=True)),
        ("ReplayEvents", pb.ReplayEventsRequest(parent=PARENT, force=True)),
        ("GetReplay", pb.GetReplayRequest(name=started.name)),
        ("DeleteRejection", pb.DeleteRejectionRequest(name=third.name)),
        ("AcceptRejection", pb.AcceptRejectionRequest(name=first.name)),
        ("AcceptRejections", pb.AcceptRejectionsRequest(parent=PARENT)),
        ("PurgeEvents", pb.PurgeEventsRequest(parent=PARENT)),
        ("PurgeEvents", pb.PurgeEventsRequest(parent=PARENT, force=True)),
    ]


@check
async def no_statement_for_a_tenant_lacks_its_tenant(open):
    """Named exceptions, which by their nature work for all: admission, the queue's claims and leases, and the looks
    for replays that are due, for what is past its days, and for tombstones. Each of them goes on by tenant."""
    async with open() as world:
        asked = await requests(world)
        service = "/trunkline.gateway.v1.EventService/"
        methods = {method.removeprefix(service) for method in access.TABLE if method.startswith(service)}
        assert {method for method, _ in asked} == methods
        for method, request in asked:
            with statements() as seen:
                await getattr(world.events, method)(request, None)
            assert seen, method
            assert_each_says_whose(seen)


@check
async def nor_do_the_steps_of_its_replays_and_of_its_deletion(open):
    async with open() as world:
        await world.dead(1)
        await world.done(2)
        await world.replay_all(force=True)
        await world.keep_rejected(callrail(body_of(3), "wrong"))
        await world.receipt(body_of(99), tenant="", verdict=UNVERIFIED)  # rejected at admission
        await world.admit()
        await leave_undecided(world)
        (running,) = await world.db.read(lambda conn: conn.execute(schema.replays.select()).all())
        with statements() as seen:
            await world.gateway.replays.advance("acme", running.replay_id)
            assert len(await world.listed("state = waiting")) == 2
            await purge_here(world.db, "acme")
        touched = {table for statement in seen for table, _ in _TABLE.findall(" ".join(statement.split()))}
        kept = {table.name for table in schema.metadata.sorted_tables if "tenant_id" in table.columns}
        assert kept - {"deleted_tenants"} - touched == set(), kept - touched
        assert_each_says_whose(seen)


async def leave_undecided(world):
    world.feed.down = True
    await world.receipt(body_of(6), source="s-9")
    await world.admit()
    world.feed.down = False
    assert await world.rows(schema.undecided_receipts) == 1


@check
async def a_deleted_tenant_leaves_nothing_and_takes_nothing_of_others(open):
    other = resolved("s-2")
    other.source.name = "tenants/globex/sources/s-2"
    async with open(resolved(), other) as world:
        await world.dead(1)
        await world.done(2)
        await world.event(3)
        await world.replay_all(rate_per_second=0.1)
        await world.keep_rejected(callrail(body_of(4), "wrong"))
        await world.receipt(body_of(5), tenant="", verdict=UNVERIFIED)  # wrong: a rejection
        await world.admit()
        await leave_undecided(world)
        kept = await world.event(7, source="s-2", tenant="globex")
        await world.db.write(lambda conn: bury(conn, schema.deleted_tenants, "acme", world.clock.now()))
        assert await purge_here(world.db, "acme") > 0
        assert await purge_here(world.db, "acme") == 0
        for table in schema.metadata.sorted_tables:
            if "tenant_id" in table.columns and table is not schema.deleted_tenants:
                mine = sa.select(sa.func.count()).select_from(table).where(table.c.tenant_id == "acme")
                left = await world.db.read(lambda conn, mine=mine: conn.execute(mine).scalar_one())
                assert left == 0, table.name
        assert [event.name for event in await world.listed(parent="tenants/globex")] == [kept]
        assert (await world.show(kept)).receipt_count == 1


def kept_for(days, source_id):
    source = resolved(source_id)
    source.retention.CopyFrom(tenant_pb2.Retention(events_days=days))
    return source


@check
async def ended_events_go_after_their_days_with_their_receipts(open):
    async with open(kept_for(3, "s-1"), kept_for(0, "s-2")) as world:
        world.admission = world.new_admission(events_days=10)
        long = await world.done(100, source="s-2")
        await asyncio.gather(*(world.receipt(body_of(number)) for number in range(45)))
        await world.receipt(body_of(99), tenant="", verdict=UNVERIFIED)  # rejected at admission
        await world.admit()
        held, *others = await world.claim(100)
        await asyncio.gather(*(world.finish(job) for job in others))
        world.clock.advance(3 * DAY)
        await sweep(world.db)
        assert {event.name for event in await world.listed()} == {long, held.event}
        assert await world.rows(schema.eventless_receipts) == 0
        assert await world.rows(schema.receipts) == await world.rows(schema.event_receipts) == 2


@check
async def rejections_past_their_days_are_not_shown(open):
    async with open(kept_for(3, "s-1")) as world:
        await world.keep_rejected(callrail(body_of(1), "wrong"), source=kept_for(3, "s-1"))
        assert len(await world.rejected()) == 1
        world.clock.advance(3 * DAY)
        assert await world.rejected() == []


@check
async def expired_rejections_and_replays_are_swept(open):
    async with open(kept_for(3, "s-1")) as world:
        await world.keep_rejected(callrail(body_of(1), "wrong"), source=kept_for(3, "s-1"))
        await world.replay_all()
        await world.work()
        world.clock.advance(31 * DAY)
        await sweep(world.db)
        assert await world.rows(schema.rejections) == await world.rows(schema.replays) == 0
