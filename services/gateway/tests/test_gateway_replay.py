"""Replaying: dead letters go on where they stopped, forced ones begin anew, and twice changes nothing twice."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import sqlalchemy as sa
from gateway_sources import resolved
from gateway_world import MIGRATIONS, NOW, PARENT, beside, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trunkline.gateway.v1 import event_pb2, replay_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.gateway.v1 import job_service_pb2 as jobs_pb
from trunkline_gateway import schema
from trunkline_jobs import Tasks
from trunkline_jobs.tasks import LEASE_SECONDS
from trunkline_runtime.api.validation import validator
from trunkline_runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from trunkline_runtime.process.periodic import SET_ASIDE
from trunkline_store.migrations import upgrade

WAITING, DONE = event_pb2.EVENT_STATE_WAITING, event_pb2.EVENT_STATE_DONE
DEAD = event_pb2.EVENT_STATE_DEAD_LETTER


@pytest.fixture
def sources():
    """Those of the world; none: one that everything comes from."""
    return []


@pytest.fixture
async def world(tmp_path, sources):
    async with opened(tmp_path, *sources) as world:
        yield world


async def drain(world):
    """Let the replays do everything that they have to do, as time passes."""
    while True:
        await world.work()
        if not await world.rows(schema.tasks):
            return
        world.clock.advance(0.5)


async def shown(world, replay):
    return await world.events.GetReplay(pb.GetReplayRequest(name=replay.name), None)


async def test_a_dead_letter_goes_on_where_it_stopped_and_keeps_its_generation(world):
    name = await world.event(1)
    (job,) = await world.claim()
    made = {"fetch_recording": "tenants/acme/recordings/r1"}
    await world.report(job, advance=jobs_pb.JobAdvance(next_stage="transcribe"), checkpoint=made)
    await world.bury(job)
    replayed = await world.replay(name)
    assert (replayed.state, replayed.stage, replayed.generation) == (WAITING, "transcribe", 0)
    (again,) = await world.claim()
    assert (again.stage, again.attempts, dict(again.checkpoint)) == ("transcribe", 1, made)
    assert [attempt.outcome for attempt in (await world.show(name)).history] == ["ok", "dead"]


async def test_force_begins_anew_under_the_next_generation(world):
    name = await world.done(1)
    assert (await world.show(name)).HasField("finish_time")
    with pytest.raises(FailedPrecondition) as refused:
        await world.replay(name)
    assert refused.value.reason == "EVENT_DONE"
    replayed = await world.replay(name, force=True)
    assert (replayed.state, replayed.stage, replayed.generation) == (WAITING, "normalise", 1)
    assert not replayed.HasField("finish_time")
    (job,) = await world.claim()
    assert (job.generation, dict(job.checkpoint)) == (1, {})


async def test_a_recording_is_fetched_again_when_a_replay_asks_for_it(world):
    name = await world.done(1)
    with pytest.raises(InvalidArgument):
        await world.replay(name, fetch_again=True)
    with pytest.raises(InvalidArgument):
        await world.replay_all(fetch_again=True)
    await world.replay(name, force=True, fetch_again=True)
    (job,) = await world.claim()
    assert (job.generation, job.fetch_generation) == (1, 1)
    await world.finish(job)
    await world.replay(name, force=True)
    (job,) = await world.claim()
    assert (job.generation, job.fetch_generation) == (2, 1), "the bytes of the last fetch are kept"
    await world.finish(job)
    replay = await world.replay_all(force=True, fetch_again=True)
    assert replay.fetch_again
    await drain(world)
    (job,) = await world.claim()
    assert (job.generation, job.fetch_generation) == (3, 2)


async def test_a_forced_replay_that_is_asked_for_again_is_not_done_again(world):
    name = await world.done(1)
    await world.replay(name, force=True, generation=0)
    (job,) = await world.claim()
    await world.finish(job)
    again = await world.replay(name, force=True, generation=0)
    assert (again.state, again.generation) == (DONE, 1)


async def test_an_event_that_waits_or_is_processed_stays_as_it_is(world):
    name = await world.event(1)
    assert (await world.replay(name, force=True)).generation == 0
    (job,) = await world.claim()
    assert (await world.replay(name, force=True)).state == event_pb2.EVENT_STATE_PROCESSING
    assert await world.report(job, done=jobs_pb.JobDone()) == [], "its lease holds"


async def test_another_tenants_event_cannot_be_replayed(world):
    name = await world.dead(1)
    with pytest.raises(NotFound):
        await world.replay(name.replace("acme", "globex"))
    assert (await world.show(name)).state == DEAD


async def test_dead_letters_are_listed_latest_first_and_by_filter(world):
    names = [await world.dead(n) for n in range(3)]
    await world.done(9)
    names.append(await world.dead(4, event_type="pre_call"))
    request = pb.ListDeadLettersRequest(parent=PARENT, page_size=3)
    first = await world.events.ListDeadLetters(request, None)
    request.page_token = first.next_page_token
    second = await world.events.ListDeadLetters(request, None)
    assert [e.name for e in (*first.events, *second.events)] == names[::-1]
    some = pb.ListDeadLettersRequest(parent=PARENT, filter="event_type = pre_call")
    assert [e.name for e in (await world.events.ListDeadLetters(some, None)).events] == names[-1:]
    request = pb.ListDeadLettersRequest(parent=PARENT, filter="state = done")
    with pytest.raises(InvalidArgument):
        await world.events.ListDeadLetters(request, None)


async def test_a_dry_run_counts_and_changes_nothing(world):
    names = [await world.dead(n) for n in range(25)]
    await world.done(99)
    found = await world.replay_all(dry_run=True)
    assert (found.name, found.state, found.event_count) == ("", replay_pb2.REPLAY_STATE_DRY_RUN, 25)
    assert list(found.sample) == names[:20]
    assert (await world.replay_all(dry_run=True, force=True)).event_count == 26
    assert (await world.replay_all(dry_run=True, filter="state = dead_letter", force=True)).event_count == 25
    assert await world.rows(schema.replays) == 0
    assert len(await world.listed("state = dead_letter")) == 25


async def test_a_filter_that_is_none_is_refused_before_anything_is_kept(world):
    with pytest.raises(InvalidArgument):
        await world.replay_all(filter="colour = red")
    assert await world.rows(schema.replays) == 0


async def test_many_are_replayed_at_their_rate_behind_other_work(world):
    names = {await world.dead(n) for n in range(12)}
    started = await world.replay_all(rate_per_second=10, filter="state = dead_letter")
    assert (started.state, started.event_count) == (replay_pb2.REPLAY_STATE_RUNNING, 12)
    await world.work()
    await world.work()
    assert len(await world.listed("state = waiting")) == 5, "half a second's worth, however often one looks"
    world.clock.advance(0.5)
    await world.work()
    assert len(await world.listed("state = waiting")) == 10
    new = await world.event(100)
    assert (await world.claim(1))[0].event == new, "what just came goes first"
    await drain(world)
    ended = await shown(world, started)
    assert (ended.state, ended.replayed_count) == (replay_pb2.REPLAY_STATE_DONE, 12)
    assert ended.HasField("finish_time")
    assert {job.event for job in await world.claim()} == names


async def test_a_replay_goes_on_after_a_crash_and_replays_none_twice(world):
    for n in range(8):
        await world.dead(n)
    await world.replay_all(rate_per_second=8)
    await world.work()
    replayed = await world.claim()
    assert len(replayed) == 4
    for job in replayed:
        await world.bury(job, "again")
    world.clock.advance(1)
    await drain(world)
    assert len(await world.listed("state = waiting")) == 4
    assert {e.last_error for e in await world.listed("state = dead_letter")} == {"again"}


async def test_two_gateways_on_one_store_share_a_replay(world, tmp_path):
    for n in range(30):
        await world.dead(n)
    started = await world.replay_all(force=True, rate_per_second=20)
    async with beside(world, tmp_path) as other:
        for _ in range(2):
            await asyncio.gather(world.work(), other.work())
        assert (await shown(world, started)).replayed_count == 10, (
            "half a second's worth, however many work on it"
        )
        world.clock.advance(0.5)
        await asyncio.gather(world.work(), other.work())
    ended = await shown(world, started)
    assert ended.replayed_count == len(await world.listed("state = waiting")) == 20


async def test_a_step_that_is_done_twice_sets_its_events_going_once(world):
    """As when its first holder was too slow, and does not know yet that it lost its lease."""
    for n in range(3):
        await world.done(n)
    started = await world.replay_all(force=True, rate_per_second=4)
    steps = [world.gateway.replays.advance("acme", started.name.split("/")[-1]) for _ in range(2)]
    await asyncio.gather(*steps)
    ended = await shown(world, started)
    assert ended.replayed_count == len(await world.listed("state = waiting")) == 2


async def test_a_replay_whose_process_was_killed_goes_on_in_the_next(world, tmp_path):
    for n in range(4):
        await world.dead(n)
    started = await world.replay_all()
    killed = Tasks(world.db, schema.tasks)
    assert await world.db.write(lambda conn: killed.queue.claim(conn, "killed", 1, LEASE_SECONDS))
    world.clock.advance(LEASE_SECONDS - 1)
    async with beside(world, tmp_path) as other:
        running = asyncio.create_task(other.gateway.tasks.run())
        await asyncio.sleep(0.2)
        assert (await shown(world, started)).replayed_count == 0, "its lease holds"
        running.cancel()
        await asyncio.wait([running])
        world.clock.advance(1)
        await other.work()
    ended = await shown(world, started)
    assert (ended.state, ended.replayed_count) == (replay_pb2.REPLAY_STATE_DONE, 4)


async def test_a_replay_of_an_earlier_release_has_no_task_and_goes_on(world):
    await world.dead(1)
    started = await world.replay_all()
    await world.db.write(lambda conn: conn.execute(schema.tasks.delete()))
    running = asyncio.create_task(world.gateway.tasks.run())
    async with asyncio.timeout(10):
        while (await shown(world, started)).state != replay_pb2.REPLAY_STATE_DONE:
            await asyncio.sleep(0.01)
    running.cancel()


async def test_a_replay_that_ran_before_the_upgrade_goes_on_after_it(tmp_path):
    url = f"sqlite:///{tmp_path}/gateway.db"
    at = int(NOW.timestamp() * 1_000_000)
    with sa.create_engine(url).begin() as conn:
        upgrade(conn, MIGRATIONS, "0060")
        conn.execute(
            sa.text(
                "INSERT INTO replays (tenant_id, replay_id, filter, force, rate, event_count, replayed_count, sample,"
                " created_at, due_at, steps, after_id) VALUES ('acme', 'p1', '', 0, 10, 7, 5, '[]', :at, :at, 1, '')"
            ),
            {"at": at},
        )
    async with opened(tmp_path, url=url) as world:
        running = asyncio.create_task(world.gateway.tasks.run())
        request = pb.GetReplayRequest(name=f"{PARENT}/replays/p1")
        async with asyncio.timeout(10):
            while (await world.events.GetReplay(request, None)).state != replay_pb2.REPLAY_STATE_DONE:
                await asyncio.sleep(0.01)
        running.cancel()
        assert (await world.events.GetReplay(request, None)).replayed_count == 5


async def test_events_that_come_later_are_none_of_its_business(world):
    for n in range(3):
        await world.dead(n)
    await world.replay_all(rate_per_second=2)
    world.clock.advance(1)
    late = await world.dead(50)
    await drain(world)
    assert (await world.show(late)).state == DEAD


async def test_the_same_request_begins_one_replay_and_another_content_is_refused(world):
    await world.dead(1)
    first = await world.replay_all(request_id="r-1")
    await drain(world)
    again = await world.replay_all(request_id="r-1")
    assert (again.name, again.state) == (first.name, replay_pb2.REPLAY_STATE_DONE)
    with pytest.raises(InvalidArgument):
        await world.replay_all(request_id="r-1", force=True)
    assert await world.rows(schema.replays) == 1
    foreign = pb.GetReplayRequest(name=first.name.replace("acme", "globex"))
    with pytest.raises(NotFound):
        await world.events.GetReplay(foreign, None)


@pytest.mark.parametrize("rate", [1e-12, 0.0099, 1000.1, -1.0, float("nan"), float("inf")])
def test_a_rate_outside_of_its_bounds_is_refused_by_name(rate):
    with pytest.raises(InvalidArgument, match=r"rate_per_second: must be .* 0\.01 and .* 1000"):
        validator()(pb.ReplayEventsRequest(parent=PARENT, rate_per_second=rate))


@pytest.mark.parametrize("rate", [0.0, 0.01, 1000.0])
def test_a_rate_within_its_bounds_is_taken(rate):
    validator()(pb.ReplayEventsRequest(parent=PARENT, rate_per_second=rate))


@pytest.mark.parametrize("rate", [1e-12, 1e300, -5.0])
async def test_a_rate_that_an_earlier_version_took_stops_nobodys_replays(world, rate):
    for n in range(3):
        await world.dead(n)
    slow = await world.replay_all(rate_per_second=rate)
    other = await world.replay_all(rate_per_second=10, force=True)
    await world.work()
    assert (await shown(world, other)).state == replay_pb2.REPLAY_STATE_DONE
    assert (await shown(world, slow)).HasField("create_time")


@pytest.mark.parametrize("sources", [[resolved(replays=2)]])
async def test_a_replay_that_cannot_go_on_says_so_and_the_others_go_on(world):
    await world.sources.resolve("s-1")
    await world.dead(1)
    poison = await world.replay_all(rate_per_second=5)
    await world.db.write(lambda conn: conn.execute(schema.replays.update().values(filter="no filter at all")))
    good = await world.replay_all(rate_per_second=10)
    before = SET_ASIDE.labels("replay")._value.get()
    await world.work()
    assert (await shown(world, good)).state == replay_pb2.REPLAY_STATE_DONE
    assert SET_ASIDE.labels("replay")._value.get() == before + 1, "it is not tried again at once"
    assert (await shown(world, poison)).state == replay_pb2.REPLAY_STATE_RUNNING
    for _ in range(4):
        world.clock.advance(60)
        await world.work()
    ended = await shown(world, poison)
    assert (ended.state, "filter" in ended.error) == (replay_pb2.REPLAY_STATE_FAILED, True)
    assert ended.HasField("finish_time")
    assert await world.rows(schema.tasks) == 0
    for _ in range(2):
        await world.replay_all()  # it does not count against the quota


async def test_a_replay_ends_without_being_asked(world):
    await world.dead(1)
    working = asyncio.create_task(world.gateway.tasks.run())
    claim = asyncio.create_task(claim_when_ready(world))
    await world.replay_all()
    assert len(await asyncio.wait_for(claim, 5)) == 1
    working.cancel()


async def claim_when_ready(world):
    request = jobs_pb.ClaimJobsRequest(worker="w", limit=1)
    request.lease.FromSeconds(30)
    request.wait.FromSeconds(30)
    return (await world.jobs.ClaimJobs(request, None)).jobs


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("one"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("all"), st.just(0), st.booleans()),
    ),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=settings.default.max_examples // 6,  # an example is two gateways, each with its store
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(ends=st.lists(st.sampled_from(["dead", "done", "held"]), min_size=4, max_size=4), actions=ACTIONS)
def test_replaying_twice_changes_nothing_twice(tmp_path_factory, ends, actions):
    """Each request sent twice in a row leaves the same jobs as sent once, whatever stood before."""

    async def outcome(times):
        async with opened(tmp_path_factory.mktemp("world")) as world:
            names = []
            for n, end in enumerate(ends):
                make = {"dead": world.dead, "done": world.done, "held": world.event}[end]
                names.append(await make(n))
                if end == "held":
                    await world.claim()
            for number, (kind, index, force) in enumerate(actions):
                generation = (await world.show(names[index])).generation
                for _ in range(times):
                    if kind == "one":
                        with contextlib.suppress(FailedPrecondition):  # done, and not forced
                            await world.replay(names[index], force=force, generation=generation)
                    else:
                        await world.replay_all(force=force, request_id=f"r-{number}")
                        await drain(world)
            left = [await world.show(name) for name in names]
            return [(e.state, e.stage, e.generation, e.attempts) for e in left]

    assert asyncio.run(outcome(1)) == asyncio.run(outcome(2))
