"""The claim is fair, exclusive, and quick whatever lies behind it."""

import asyncio
import random
import re
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from trunkline_jobs import LeaseLost, Load, NewJob, Queue, QueueClass, Room, Tries, jobs_table
from trunkline_store import Database, FakeClock


def new(job_id, tenant="acme", **values):
    return NewJob(job_id, tenant, "pipeline", f"event-{job_id}", stage="normalise", **values)


async def add(queue, *jobs):
    return await queue.run(queue.enqueue_many, jobs)


async def claim(queue, limit=10, owner="w1", seconds=30.0, **values):
    return await queue.run(queue.claim, owner, limit, seconds, **values)


def names(jobs):
    return [job.job_id for job in jobs]


async def test_a_job_is_enqueued_once(queue):
    assert await add(queue, new("a", checkpoint={"recording": "tenants/acme/recordings/1"})) == {
        ("acme", "a")
    }
    assert await add(queue, new("a"), new("b")) == {("acme", "b")}
    job, other = await claim(queue)
    assert (job.job_id, other.job_id) == ("a", "b")
    assert job.checkpoint == {"recording": "tenants/acme/recordings/1"}
    assert (job.state, job.attempts, job.lease_owner, job.lease_token) == ("leased", 1, "w1", 1)


async def test_what_is_claimed_is_what_is_stored(queue, stored):
    await add(queue, new("a", group_key="call-1", generation=2))
    [job] = await claim(queue)
    assert await stored("a") == job
    assert await stored("nothing") is None


async def test_no_job_is_claimed_twice_by_many_workers(queue, engine):
    workers = 100 if engine == "sqlite" else 24  # the emulator takes one after another
    await add(queue, *[new(f"{n:03}", tenant=f"t{n % 7}") for n in range(2 * workers)])
    claims = await asyncio.gather(*[claim(queue, 3, f"w{n}") for n in range(workers)])
    claimed = [job.job_id for jobs in claims for job in jobs]
    assert len(claimed) == len(set(claimed)) == 2 * workers


async def test_tenants_take_turns(queue):
    await add(queue, *[new(f"flood{n:03}", tenant="flood") for n in range(100)])
    await add(queue, new("b1", tenant="b"), new("z1", tenant="z"), new("z2", tenant="z"))
    jobs = await claim(queue, 6)
    assert [job.tenant_id for job in jobs] == ["b", "flood", "z", "flood", "z", "flood"]


async def test_the_turn_goes_on_where_the_last_claim_ended(queue, db, jobs, clock):
    await add(queue, *[new(f"{t}{n}", tenant=t) for t in "abc" for n in range(4)])
    served = []
    for _ in range(6):
        # A queue made anew each time: the turn is not kept in a process.
        [job] = await claim(Queue(db, jobs, clock), 1)
        served.append(job.tenant_id)
    assert served == ["a", "b", "c", "a", "b", "c"]


async def test_a_lost_turn_costs_nobody_a_job(queue, db):
    await add(queue, *[new(f"{t}{n}", tenant=t) for t in "abc" for n in range(3)])
    served = Counter()
    for _ in range(9):
        [job] = await claim(queue, 1)
        served[job.tenant_id] += 1
        await db.write(lambda conn: conn.exec_driver_sql("DELETE FROM jobs_turns WHERE TRUE"))
    assert served == {"a": 3, "b": 3, "c": 3}


async def test_classes_go_in_the_order_asked(queue):
    await add(
        queue,
        new("background", queue_class=QueueClass.BACKGROUND),
        new("batch", queue_class=QueueClass.BATCH),
        new("realtime"),
    )
    assert names(await claim(queue, 2)) == ["realtime", "batch"]
    assert names(await claim(queue, 2, classes=[QueueClass.REALTIME])) == []
    assert names(await claim(queue, 2, classes=[QueueClass.BACKGROUND])) == ["background"]


async def test_of_a_tenant_the_job_due_longest_goes_first(queue, clock):
    now = clock.now()
    await add(queue, new("later", visible_at=now.replace(year=2027)), new("b"))
    clock.advance(1)
    await add(queue, new("a"))
    assert names(await claim(queue)) == ["b", "a"]


async def test_a_job_is_not_claimed_before_its_time(queue, clock):
    clock.advance(60)
    due = clock.now()
    clock.advance(-60)
    await add(queue, new("a", visible_at=due))
    assert await claim(queue) == []
    clock.advance(60)
    assert names(await claim(queue)) == ["a"]


async def test_jobs_of_one_group_run_one_after_another(queue):
    await add(queue, *[new(f"g{n}", group_key="call-1") for n in range(3)], new("other"))
    await add(queue, new("foreign", tenant="zeta", group_key="call-1"))
    first = await claim(queue)
    # Another tenant's group of the same name is another group.
    assert names(first) == ["g0", "foreign", "other"]
    assert await claim(queue) == []
    await queue.run(queue.complete, first[0].lease)
    assert names(await claim(queue)) == ["g1"]


async def test_a_group_is_free_once_its_lease_ran_out(queue, clock):
    await add(queue, new("g0", group_key="call-1"), new("g1", group_key="call-1"))
    assert names(await claim(queue, 1, seconds=10)) == ["g0"]
    clock.advance(11)
    assert len(await claim(queue, 5)) == 1


async def test_a_blocked_group_holds_nobody_else_of_its_tenant(queue):
    await add(queue, *[new(f"g{n:05}", group_key="call-1") for n in range(3000)])
    await add(queue, new("z"))
    assert names(await claim(queue, 1)) == ["g00000"]
    assert names(await claim(queue, 1)) == ["z"]


async def test_caps_keep_a_slot_free_for_the_quiet(queue):
    caps = {QueueClass.REALTIME: 3}
    await add(queue, *[new(f"flood{n}", tenant="flood") for n in range(20)])
    assert len(await claim(queue, 4, in_flight_caps=caps)) == 3
    capped = set()
    assert await claim(queue, 1, "w2", in_flight_caps=caps, capped=capped) == []
    assert capped == {"flood"}
    await add(queue, new("quiet1", tenant="quiet"))
    capped = set()
    assert names(await claim(queue, 1, "w2", in_flight_caps=caps, capped=capped)) == ["quiet1"]
    assert "quiet" not in capped


async def test_an_owner_holds_no_more_than_its_slots(queue):
    room = Room(slots=3, reserve=0, quiet=1)
    await add(queue, *[new(f"{n}") for n in range(6)])
    first = await claim(queue, 2, room=room)
    assert len(await claim(queue, 9, room=room)) == 1
    assert await claim(queue, 9, room=room) == []
    assert len(await claim(queue, 9, "w2", room=room)) == 3
    await queue.run(queue.complete, first[0].lease)
    await add(queue, new("late"))
    assert names(await claim(queue, 9, room=room)) == ["late"]


async def test_busy_tenants_leave_the_reserve_to_the_quiet(queue):
    room = Room(slots=8, reserve=3, quiet=2)
    floods = [new(f"{t}{n:02}", tenant=t) for t in ("flood", "gale") for n in range(40)]
    await add(queue, *floods)
    first = await claim(queue, 8, room=room)
    assert Counter(job.tenant_id for job in first) == {"flood": 3, "gale": 2}
    assert await claim(queue, 8, room=room) == [], "both are busy: what is free is kept"
    await add(queue, *[new(f"q{n}", tenant="quiet") for n in range(4)], new("r1", tenant="rare"))
    served = await claim(queue, 8, room=room)
    assert Counter(job.tenant_id for job in served) == {"quiet": 2, "rare": 1}
    for job in (first[0], served[0]):
        await queue.run(queue.complete, job.lease)
    freed = await claim(queue, 8, room=room)
    assert {job.tenant_id for job in freed} <= {"quiet"}, "two slots are free, and three are kept"


async def test_the_reserve_is_for_realtime_jobs_only(queue):
    room = Room(slots=4, reserve=1, quiet=2)
    await add(queue, *[new(f"b{n}", tenant=f"t{n}", queue_class=QueueClass.BACKGROUND) for n in range(9)])
    assert len(await claim(queue, 4, room=room)) == 3
    await add(queue, new("now", tenant="t1"))
    assert names(await claim(queue, 4, room=room)) == ["now"]


async def test_caps_count_live_leases_of_their_class_only(queue, clock):
    caps = {QueueClass.REALTIME: 1}
    await add(queue, new("a"), new("b"), new("c", queue_class=QueueClass.BATCH))
    assert names(await claim(queue, 5, seconds=10, in_flight_caps=caps)) == ["a", "c"]
    assert await claim(queue, 5, in_flight_caps=caps) == []
    clock.advance(11)
    assert names(await claim(queue, 5, in_flight_caps=caps))[0] in {"a", "b"}


async def test_an_expired_lease_is_claimed_under_a_new_token(queue, clock):
    await add(queue, new("a"))
    [lost] = await claim(queue, owner="w1", seconds=10)
    assert await claim(queue, owner="w2") == []
    clock.advance(10)
    [job] = await claim(queue, owner="w2")
    assert (job.lease_token, job.attempts, job.lease_owner) == (lost.lease_token + 1, 2, "w2")
    assert [(entry["outcome"], entry["owner"], entry["attempt"]) for entry in job.history] == [
        ("expired", "w1", 1)
    ]


async def test_claiming_nothing_is_nothing(queue):
    assert await claim(queue, 0) == []
    assert await claim(queue, 5) == []


async def test_every_shard_is_served(db, jobs, clock):
    queue = Queue(db, jobs, clock, shards=4)
    await add(queue, *[new(f"{n}", tenant=f"t{n % 3}") for n in range(60)])
    shards = await db.read(lambda conn: conn.execute(sa.select(jobs.c.shard).distinct()).scalars().all())
    assert sorted(shards) == [0, 1, 2, 3]
    claimed = [name for _ in range(6) for name in names(await claim(queue, 10))]
    assert sorted(claimed) == sorted(str(n) for n in range(60))


def statements_of(db, run):
    """Return (sql, parameters) of what a synchronous use of a connection issues."""
    issued = []

    def spied(conn):
        def note(_conn, _cursor, sql, parameters, _context, _many):
            issued.append((sql, parameters))

        sa.event.listen(conn, "before_cursor_execute", note)
        try:
            return run(conn)
        finally:
            sa.event.remove(conn, "before_cursor_execute", note)

    return spied, issued


async def test_no_statement_of_the_queue_scans_the_jobs(only_sqlite, queue, db):
    await add(queue, *[new(f"{n:04}", tenant=f"t{n % 5}", group_key=f"g{n % 9}") for n in range(500)])

    def life(conn):
        held = queue.claim(conn, "w1", 8, 30, in_flight_caps={0: 5})
        held += queue.claim(conn, "w1", 8, 30)
        a, b, c, d, *_ = held
        queue.renew(conn, a.lease, 30)
        queue.advance(conn, a.lease, "transcribe", {"recording": "r"})
        queue.complete(conn, a.lease)
        queue.reschedule(conn, b.lease, 5, error={"reason": "X"})
        queue.bury(conn, c.lease, {"reason": "Y"})
        queue.revive(conn, c.job_id, tenant_id=c.tenant_id)
        queue.bury(conn, d.lease, {"reason": "Y"})
        queue.enqueue_many(conn, [new("one-more")])
        queue.lease_by_id(conn, held[-1].job_id, held[-1].lease_token)
        return queue.release(conn, "w1")

    spied, issued = statements_of(db, life)
    assert await db.write(spied) > 0
    assert len(issued) > 25

    def plans(conn):
        return [
            (row[3], sql)
            for sql, parameters in issued
            for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
        ]

    steps = await db.read(plans)
    assert any("jobs_queue" in step for step, _ in steps)
    assert any("jobs_leases" in step for step, _ in steps)
    scans = [(step, sql) for step, sql in steps if re.match(r"SCAN (?!walk|CONSTANT)", step)]
    assert scans == []


async def test_a_claim_costs_the_same_behind_a_flood(only_sqlite, queue, db):
    """Counted in SQLite's own steps, not in time."""
    await add(queue, *[new(f"quiet{n}", tenant="zz-quiet") for n in range(3)])

    async def steps_of_a_claim():
        def counted(conn):
            raw = conn.connection.driver_connection
            ticks = Counter()
            raw.set_progress_handler(lambda: ticks.update(["tick"]), 100)
            try:
                queue.claim(conn, "w1", 1, 30)
            finally:
                raw.set_progress_handler(None, 0)
            return ticks["tick"]

        return await db.write(counted)

    await add(queue, new("flood", tenant="flood"))
    await claim(queue, 1)
    few = await steps_of_a_claim()
    await add(queue, *[new(f"flood{n:05}", tenant="flood") for n in range(10_000)])
    assert max([await steps_of_a_claim() for _ in range(4)]) <= few + 5


@settings(max_examples=25, deadline=None)
@given(
    tenants=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    limits=st.lists(st.integers(1, 5), min_size=1, max_size=10),
    seed=st.integers(0, 999),
)
async def test_no_tenant_gets_two_turns_before_each_other_got_one(tmp_path_factory, tenants, limits, seed):
    metadata = sa.MetaData()
    table = jobs_table(metadata)
    path = tmp_path_factory.mktemp("fair") / "jobs.db"
    async with await Database.open(f"sqlite:///{path}", metadata, clock=FakeClock(), readers=1) as db:
        queue = Queue(db, table)
        every = [new(f"{t}-{n}", tenant=f"t{t}") for t, count in enumerate(tenants) for n in range(count)]
        random.Random(seed).shuffle(every)
        await add(queue, *every)
        left = Counter(job.tenant_id for job in every)
        waits = Counter()
        for limit in limits:
            for job in await claim(queue, limit):
                left[job.tenant_id] -= 1
                waits[job.tenant_id] = 0
                for tenant, count in left.items():
                    if count and tenant != job.tenant_id:
                        waits[tenant] += 1
                        assert waits[tenant] < len(tenants)
        assert sum(left.values()) == max(0, len(every) - sum(limits))


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_quiet_tenant_waits_at_most_one_round(queue, limit):
    await add(queue, *[new(f"{t}{n}", tenant=f"flood{t}") for t in range(4) for n in range(50)])
    await claim(queue, 2)
    await add(queue, new("quiet", tenant="flood0-quiet"))
    claimed = [name for _ in range(6) for name in names(await claim(queue, limit))]
    assert "quiet" in claimed[:6]


async def test_a_claim_carries_no_more_than_its_bytes_and_leaves_the_rest_unleased(queue):
    await add(queue, *[new(f"{t}{n}", tenant=t) for t in "abc" for n in range(4)])
    weighed = Load(25, lambda conn, chosen: dict.fromkeys(chosen, 10))
    claimed = []
    for _ in range(6):
        found = await claim(queue, 10, load=weighed)
        assert len(found) == 2, "two weigh 20, three would weigh 30"
        claimed += found
    assert names(claimed) == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3"]
    assert all(job.attempts == 1 for job in claimed), "what did not fit was not leased"


async def test_a_job_that_is_heavier_than_a_claim_may_be_goes_alone(queue):
    await add(queue, new("a"), new("b"), new("later", queue_class=QueueClass.BATCH))
    weighed = Load(25, lambda conn, chosen: dict.fromkeys(chosen, 100))
    assert [names(await claim(queue, 10, load=weighed)) for _ in range(3)] == [["a"], ["b"], ["later"]]


async def test_a_job_whose_holders_die_with_it_is_buried_after_its_attempts(queue, stored, clock):
    await add(queue, new("killer"), new("other", tenant="b"))
    tries = Tries(lambda stage: 3, clock=lambda: 0.0)
    for attempt in range(1, 4):
        found = {job.job_id: job for job in await claim(queue, seconds=10, owner=f"w{attempt}", tries=tries)}
        assert found["killer"].attempts == attempt
        if "other" in found:
            await queue.run(queue.complete, found["other"].lease)
        clock.advance(11)
    assert await claim(queue, tries=tries) == []
    (ended,) = tries.given_up
    assert (ended.tenant_id, ended.subject) == ("acme", "event-killer")
    dead = await stored("killer")
    assert "3 attempts" in dead.last_error["message"]
    assert [entry["outcome"] for entry in dead.history] == ["expired", "expired", "expired", "buried"]
    clock.advance(1_000)
    assert await claim(queue, tries=tries) == []
    with pytest.raises(LeaseLost):
        await queue.run(queue.complete, found["killer"].lease)
    assert await queue.run(queue.revive, "killer", tenant_id="acme"), (
        "it can be replayed like any dead letter"
    )
    assert names(await claim(queue, tries=tries)) == ["killer"]


async def test_a_last_attempt_that_was_reported_is_not_taken_for_a_death(queue, clock):
    await add(queue, new("a"))
    tries = Tries(lambda stage: 2, clock=lambda: 0.0)
    for _ in range(2):
        (job,) = await claim(queue, tries=tries)
        await queue.run(queue.reschedule, job.lease, 1.0)
        clock.advance(2)
    assert names(await claim(queue, tries=tries)) == ["a"], (
        "whether it is given up is for its reporter to say"
    )


async def test_a_claim_buries_no_more_than_it_may_and_leaves_the_others_as_they_were(queue, stored, clock):
    await add(queue, *(new(f"{n}") for n in range(5)))
    await claim(queue, seconds=10)
    clock.advance(11)
    assert await claim(queue, tries=Tries(lambda stage: 1, most_buried=3, clock=lambda: 0.0)) == []
    assert [(await stored(f"{n}")).state for n in range(5)] == ["dead"] * 3 + ["leased"] * 2
    ticks = iter(range(100))
    late = Tries(lambda stage: 1, seconds=0.5, clock=lambda: next(ticks))
    assert await claim(queue, tries=late) == []
    assert len(late.given_up) == 1, "the first is buried however late it is"
    assert [(await stored(f"{n}")).state for n in range(3, 5)] == ["dead", "leased"]


async def test_what_a_claim_or_a_cancellation_ended_is_untold_until_it_is_told(queue, clock):
    async def due():
        return await queue.run(queue.untold, 10)

    await add(queue, new("a"), new("b"), new("c"), new("d"))
    await claim(queue, limit=2, seconds=10)
    clock.advance(11)
    await queue.run(queue.cancel, "c", tenant_id="acme")
    (reported,) = await claim(queue, limit=1)
    assert reported.job_id == "d"
    await queue.run(queue.bury, reported.lease, {"message": "told"})
    await claim(queue, tries=Tries(lambda stage: 1, clock=lambda: 0.0))
    assert sorted((one.job_id, one.state) for one in await due()) == [
        ("a", "dead"),
        ("b", "dead"),
        ("c", "cancelled"),
    ]
    first = (await due())[0]
    await queue.run(queue.tell_later, first, timedelta(seconds=5))
    assert first.job_id not in [one.job_id for one in await due()]
    for other in await due():
        await queue.run(queue.told, other)
    assert await due() == []
    clock.advance(5)
    (again,) = await due()
    assert (again.job_id, again.tries) == (first.job_id, 1)
    await queue.run(queue.revive, again.job_id, tenant_id=again.tenant_id)
    assert await due() == [], "it goes on"
    await claim(queue, limit=1, seconds=10)
    clock.advance(11)
    await claim(queue, tries=Tries(lambda stage: 1, clock=lambda: 0.0))
    await queue.run(queue.told, again)
    assert [one.tries for one in await due()] == [0], "it has ended anew"
