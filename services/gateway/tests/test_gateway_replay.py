"""Replaying: dead letters go on where they stopped, forced ones begin anew, and twice changes nothing twice."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from gateway_world import PARENT, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trunkline.gateway.v1 import event_pb2, replay_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.gateway.v1 import job_service_pb2 as jobs_pb
from trunkline_gateway import schema
from trunkline_gateway.events.replays import Replays
from trunkline_runtime.api.validation import validator
from trunkline_runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from trunkline_runtime.process.periodic import SET_ASIDE

WAITING, DONE = event_pb2.EVENT_STATE_WAITING, event_pb2.EVENT_STATE_DONE
DEAD = event_pb2.EVENT_STATE_DEAD_LETTER


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


async def drain(world):
    """Let the replay loop do everything that is due, as time passes."""
    while True:
        await world.replays.step()
        running = [r for r in await shown_replays(world) if r.due_at is not None]
        if not running:
            return
        world.clock.advance(0.5)


async def shown_replays(world):
    return await world.db.read(lambda conn: conn.execute(schema.replays.select()).all())


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
    await world.replays.step()
    await world.replays.step()
    assert len(await world.listed("state = waiting")) == 5, "half a second's worth, however often one looks"
    world.clock.advance(0.5)
    await world.replays.step()
    assert len(await world.listed("state = waiting")) == 10
    new = await world.event(100)
    assert (await world.claim(1))[0].event == new, "what just came goes first"
    await drain(world)
    ended = await world.events.GetReplay(pb.GetReplayRequest(name=started.name), None)
    assert (ended.state, ended.replayed_count) == (replay_pb2.REPLAY_STATE_DONE, 12)
    assert ended.HasField("finish_time")
    assert {job.event for job in await world.claim()} == names


async def test_a_replay_goes_on_after_a_crash_and_replays_none_twice(world):
    for n in range(8):
        await world.dead(n)
    await world.replay_all(rate_per_second=8)
    await world.replays.step()
    replayed = await world.claim()
    assert len(replayed) == 4
    for job in replayed:
        await world.bury(job, "again")
    world.replays = Replays(world.db, world.queue, world.jobs.jobs_ready)  # another process
    world.clock.advance(1)
    await drain(world)
    assert len(await world.listed("state = waiting")) == 4
    assert {e.last_error for e in await world.listed("state = dead_letter")} == {"again"}


async def test_a_step_that_two_do_at_once_is_done_once(world):
    for n in range(3):
        await world.dead(n)
    started = await world.replay_all(force=True, rate_per_second=4)
    other = Replays(world.db, world.queue, world.jobs.jobs_ready)
    await asyncio.gather(world.replays.step(), other.step())
    ended = await world.events.GetReplay(pb.GetReplayRequest(name=started.name), None)
    assert ended.replayed_count == len(await world.listed("state = waiting")) == 2


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
    await world.replays.step()
    ended = await world.events.GetReplay(pb.GetReplayRequest(name=other.name), None)
    assert ended.state == replay_pb2.REPLAY_STATE_DONE
    assert (await world.events.GetReplay(pb.GetReplayRequest(name=slow.name), None)).HasField("create_time")


async def test_a_replay_that_fails_is_set_aside_and_the_others_go_on(world):
    await world.dead(1)
    poison = await world.replay_all(rate_per_second=5)
    await world.db.write(lambda conn: conn.execute(schema.replays.update().values(filter="no filter at all")))
    good = await world.replay_all(rate_per_second=10)
    before = SET_ASIDE.labels("replays")._value.get()
    for _ in range(3):
        world.clock.advance(1)
        await world.replays.step()
    assert SET_ASIDE.labels("replays")._value.get() == before + 1, "it is not tried again at every look"
    shown = [await world.events.GetReplay(pb.GetReplayRequest(name=one.name), None) for one in (poison, good)]
    assert [one.state for one in shown] == [replay_pb2.REPLAY_STATE_RUNNING, replay_pb2.REPLAY_STATE_DONE]


async def test_the_loop_ends_a_replay_without_being_asked(world):
    world.replays = Replays(world.db, world.queue, world.jobs.jobs_ready)
    world.events._replays = world.replays
    await world.dead(1)
    loop = asyncio.create_task(world.replays.run())
    claim = asyncio.create_task(claim_when_ready(world))
    await world.replay_all()
    assert len(await asyncio.wait_for(claim, 5)) == 1
    loop.cancel()


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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
