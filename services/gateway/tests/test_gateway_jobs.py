"""JobService over a real store: what a worker is given, and what its reports change."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from gateway_sources import Feed, resolved
from gateway_world import MIGRATIONS, make_config, new_file, nobody, opened
from google.protobuf.duration_pb2 import Duration
from trunkline.gateway.v1 import event_pb2, event_service_pb2
from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline.tenant.v1 import call_pb2
from trunkline_gateway import schema
from trunkline_gateway.app import build
from trunkline_gateway.events.progress import sequence
from trunkline_gateway.jobs.burials import MOST_TRIES, NOT_TOLD, Burials
from trunkline_gateway.pipeline.policy import POLICIES
from trunkline_gateway.receipts import VERIFIED
from trunkline_jobs import Tries
from trunkline_runtime.errors import Aborted, Internal, NotFound, Unavailable
from trunkline_runtime.identity.access.rules import MOST_MESSAGE_BYTES
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.testing import value_of
from trunkline_store import Database, FakeClock

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class World:
    def __init__(self, gateway, clock):
        self.db, self.queue, self.clock = gateway.db, gateway.queue, clock
        self.jobs, self.admission, self.events = gateway.jobs, gateway.admission, gateway.events
        self.inbox = gateway.db.appender(schema.receipts)

    async def event(self, number: int, event_type="post_call", source="s-1"):
        self.clock.advance(0.001)
        body = json.dumps({"id": number, "timestamp": "2026-11-20T07:00:00Z"}).encode()
        await self.inbox.append(
            (
                f"{number:032x}",
                source,
                "acme" if source == "s-1" else "globex",
                event_type,
                NOW,
                VERIFIED,
                "application/json",
                "",
                b"",
                body,
            )
        )
        await self.admission.step()
        return body

    async def claim(self, worker="w1", limit=10, wait=0.0, lease=30, slots=0):
        request = pb.ClaimJobsRequest(worker=worker, limit=limit, lease=Duration(seconds=lease), slots=slots)
        request.wait.FromMilliseconds(int(wait * 1000))
        return (await self.jobs.ClaimJobs(request, None)).jobs

    async def report(self, job, tenant=None, **outcome):
        tenant = job.event.rsplit("/", 2)[0] if tenant is None else tenant
        lease = pb.Lease(job_id=job.job_id, lease_token=job.lease_token, tenant=tenant)
        report = pb.JobReport(lease=lease, stage=job.stage, start_time=NOW, **outcome)
        answer = await self.jobs.ReportJobs(pb.ReportJobsRequest(worker="w1", reports=[report]), None)
        return list(answer.lost_job_ids)

    async def story(self, job):
        return await self.events.GetEvent(event_service_pb2.GetEventRequest(name=job.event), None)


@pytest.fixture
async def world(tmp_path):
    clock = FakeClock(NOW)
    url = await new_file(tmp_path)
    other = resolved("s-2")
    other.source.name = "tenants/globex/sources/s-2"
    config = make_config(tmp_path, tenant_in_flight=10, contended_share=0.2)
    async with (
        await Database.open(url, schema.metadata, migrations=MIGRATIONS, clock=clock) as db,
        build(config, db=db, feed=Feed(resolved(), other), tell_call=nobody) as gateway,
    ):
        yield World(gateway, clock)


async def test_a_claimed_job_carries_what_its_first_receipt_said(world):
    body = await world.event(1)
    (job,) = await world.claim()
    assert job.body == body
    assert job.content_type == "application/json"
    assert job.source == "tenants/acme/sources/s-1"
    assert job.event.startswith("tenants/acme/events/e")
    assert (job.stage, job.attempts, job.generation) == ("normalise", 1, 0)
    assert job.lease_expire_time.ToDatetime(UTC) == world.clock.now() + timedelta(seconds=30)
    assert await world.claim("w2") == []


async def test_a_waiting_claim_is_answered_as_soon_as_an_event_is_admitted(world):
    claim = asyncio.create_task(world.claim(wait=30))
    await asyncio.sleep(0)
    await world.event(1)
    (job,) = await asyncio.wait_for(claim, 5)
    assert job.job_id


async def test_a_claim_of_a_busy_worker_is_answered_when_a_slot_is_free(world):
    for number in range(4):
        await world.event(number)
    first = await world.claim(slots=3)
    assert len(first) == 2, "one slot of three is kept for somebody else"
    waiting = asyncio.create_task(world.claim(slots=3, wait=20.0))
    await world.report(first[0], done=pb.JobDone())
    assert len(await asyncio.wait_for(waiting, 5)) == 1


async def test_slots_that_become_free_one_after_another_are_filled_together(world):
    for number in range(7):
        await world.event(number)
    held = await world.claim(slots=4)
    assert len(held) == 3
    waiting = asyncio.create_task(world.claim(slots=4, wait=20.0))
    for job in held:
        await world.report(job, done=pb.JobDone())
    assert len(await asyncio.wait_for(waiting, 5)) == 3


async def test_a_tenant_gets_less_at_once_while_another_is_served(world):
    for number in range(9):
        await world.event(number)
    assert len(await world.claim(limit=3)) == 3, "alone it may have up to ten"
    await world.event(100, source="s-2")
    assert [job.event.split("/")[1] for job in await world.claim(limit=1)] == ["globex"]
    assert not await world.claim("w2"), "now two is the most, and it has three"


async def test_more_jobs_of_a_tenant_at_its_cap_wake_no_claim(world, monkeypatch):
    claims = 0
    claim = world.queue.claim

    def counted(*arguments, **named):
        nonlocal claims
        claims += 1
        return claim(*arguments, **named)

    monkeypatch.setattr(world.queue, "claim", counted)
    for number in range(11):
        await world.event(number)
    held = await world.claim(limit=20)
    assert len(held) == 10
    waiting = asyncio.create_task(world.claim("w2", wait=20))
    while claims < 2:
        await asyncio.sleep(0)
    await world.db.write(lambda conn: None)  # behind the claim that found nothing
    for number in range(11, 15):
        await world.event(number)
    assert claims == 2
    await world.event(100, source="s-2")
    assert [job.event.split("/")[1] for job in await asyncio.wait_for(waiting, 5)] == ["globex"]
    waiting = asyncio.create_task(world.claim("w2", wait=20))
    for job in held:
        await world.report(job, done=pb.JobDone())
    assert {job.event.split("/")[1] for job in await asyncio.wait_for(waiting, 5)} == {"acme"}


@pytest.fixture
async def untimed(tmp_path):
    """A world in which no claim looks for jobs that became due by time alone."""
    url = await new_file(tmp_path)
    pace = Pace(intervals={"jobs.look": 3600.0})
    async with (
        await Database.open(url, schema.metadata, migrations=MIGRATIONS, clock=FakeClock(NOW)) as db,
        build(make_config(tmp_path), db=db, feed=Feed(resolved()), tell_call=nobody, pace=pace) as gateway,
    ):
        yield World(gateway, db.clock)


async def test_a_job_that_comes_alone_costs_one_claim(untimed, monkeypatch):
    seen, claim = Counter(), untimed.queue.claim

    def counted(*arguments, **named):
        seen["claims"] += 1
        return claim(*arguments, **named)

    monkeypatch.setattr(untimed.queue, "claim", counted)
    for number in range(3):
        await untimed.event(number)
        (job,) = await asyncio.wait_for(untimed.claim(wait=20), 5)
        waiting = asyncio.create_task(untimed.claim(wait=20))
        await untimed.report(job, done=pb.JobDone())
        await asyncio.sleep(0.1)
        assert seen["claims"] == number + 1
        waiting.cancel()


async def test_a_job_that_waits_for_another_of_its_call_is_claimed_once_that_is_done(untimed):
    await untimed.event(7, "pre_call")
    (first,) = await untimed.claim(wait=20)
    await untimed.event(7, "post_call")
    waiting = asyncio.create_task(untimed.claim(wait=20))
    await asyncio.sleep(0.1)
    await untimed.report(first, done=pb.JobDone())
    (second,) = await asyncio.wait_for(waiting, 5)
    assert second.event_type == "post_call"


async def test_a_job_that_is_to_be_tried_again_at_once_is_claimed_again(untimed):
    await untimed.event(1)
    (job,) = await untimed.claim(wait=20)
    waiting = asyncio.create_task(untimed.claim(wait=20))
    await asyncio.sleep(0.1)
    await untimed.report(job, retry=pb.JobRetry(error="it failed"))
    (again,) = await asyncio.wait_for(waiting, 5)
    assert (again.job_id, again.attempts) == (job.job_id, 2)


async def test_a_stop_answers_waiting_claims_at_once(world):
    claim = asyncio.create_task(world.claim(wait=30))
    await asyncio.sleep(0)
    world.jobs.stop()
    assert await asyncio.wait_for(claim, 5) == []


@pytest.mark.parametrize("turns", range(5))
async def test_a_claim_that_is_cancelled_as_jobs_become_ready_claims_no_more(world, turns):
    """A worker that stops cancels its claim and gives its leases back: what was leased after that would run out."""
    claim = asyncio.create_task(world.claim(wait=30))
    await asyncio.sleep(0.05)
    world.jobs.jobs_ready()
    for _ in range(turns):
        await asyncio.sleep(0)
    claim.cancel()
    await asyncio.wait([claim], timeout=5)
    assert claim.cancelled()


async def test_stages_advance_keep_their_names_and_end_in_an_event_that_is_done(world):
    await world.event(1)
    (job,) = await world.claim()
    made = {"fetch_recording": "tenants/acme/recordings/r1"}
    assert await world.report(job, advance=pb.JobAdvance(next_stage="transcribe"), checkpoint=made) == []
    job.stage = "transcribe"
    done = pb.JobDone(call="tenants/acme/calls/c1")
    assert await world.report(job, done=done, checkpoint={"record": "tenants/acme/calls/c1"}) == []
    story = await world.story(job)
    assert story.state == event_pb2.EVENT_STATE_DONE
    assert story.call == "tenants/acme/calls/c1"
    assert dict(story.checkpoint) == {**made, "record": "tenants/acme/calls/c1"}
    assert [(a.stage, a.outcome, a.worker) for a in story.history] == [
        ("normalise", "ok", "w1"), ("transcribe", "ok", "w1"),
    ]  # fmt: skip
    assert story.finish_time.ToDatetime(UTC) == world.clock.now()
    assert story.history[0].start_time.ToDatetime(UTC) == NOW, "as the worker reported"


async def test_a_retry_spends_an_attempt_and_a_wait_does_not(world):
    await world.event(1)
    (job,) = await world.claim()
    began = world.clock.now()
    await world.report(job, retry=pb.JobRetry(delay=Duration(seconds=5), error="it failed"))
    story = await world.story(job)
    assert (story.state, story.attempts, story.last_error) == (event_pb2.EVENT_STATE_WAITING, 1, "it failed")
    assert await world.claim() == []
    world.clock.advance(6)
    (job,) = await world.claim()
    assert job.attempts == 2
    await world.report(job, wait=pb.JobWait(delay=Duration(seconds=5), reason="not there yet"))
    world.clock.advance(6)
    (job,) = await world.claim()
    assert job.attempts == 2
    assert job.stage_start_time.ToDatetime(UTC) == began, "so that waiting ends some day"


async def test_a_dead_letter_says_why_and_is_not_claimed(world):
    await world.event(1)
    (job,) = await world.claim()
    named = {"normalise": "tenants/acme/calls/c1"}
    await world.report(job, dead=pb.JobDead(error="the recording is gone"), checkpoint=named)
    story = await world.story(job)
    assert (story.state, story.last_error) == (event_pb2.EVENT_STATE_DEAD_LETTER, "the recording is gone")
    assert story.call == "tenants/acme/calls/c1", "what is known of the call was recorded"
    world.clock.advance(1000)
    assert await world.claim() == []


async def test_a_report_under_a_lost_lease_changes_nothing(world):
    await world.event(1)
    (slow,) = await world.claim("slow", lease=10)
    world.clock.advance(11)
    (fast,) = await world.claim("fast")
    assert fast.lease_token > slow.lease_token
    assert await world.report(slow, dead=pb.JobDead(error="late")) == [slow.job_id]
    lease = pb.Lease(job_id=slow.job_id, lease_token=slow.lease_token, tenant=slow.event.rsplit("/", 2)[0])
    renewed = await world.jobs.RenewLeases(
        pb.RenewLeasesRequest(leases=[lease], lease=Duration(seconds=30)), None
    )
    assert (list(renewed.lost_job_ids), list(renewed.lost_leases)) == ([slow.job_id], [lease])
    assert await world.report(fast, done=pb.JobDone()) == []
    story = await world.story(fast)
    assert story.state == event_pb2.EVENT_STATE_DONE
    assert [a.outcome for a in story.history] == ["lost", "ok"]


async def test_a_worker_of_the_version_before_names_no_tenant_and_loses_nothing(world):
    await world.event(1)
    await world.event(2)
    job, other = await world.claim(lease=10)
    world.clock.advance(9)
    leases = [pb.Lease(job_id=one.job_id, lease_token=one.lease_token) for one in (job, other)]
    renew = pb.RenewLeasesRequest(leases=leases, lease=Duration(seconds=10))
    assert not (await world.jobs.RenewLeases(renew, None)).lost_job_ids
    world.clock.advance(9)
    assert await world.claim("w2") == []
    assert await world.report(job, tenant="", done=pb.JobDone()) == []
    assert (await world.story(job)).state == event_pb2.EVENT_STATE_DONE
    assert await world.report(job, tenant="", done=pb.JobDone()) == [job.job_id]


async def test_a_lease_that_names_another_tenant_is_lost(world):
    await world.event(1)
    (job,) = await world.claim()
    assert await world.report(job, tenant="tenants/globex", done=pb.JobDone()) == [job.job_id]
    assert await world.report(job, done=pb.JobDone()) == []


async def test_renewed_leases_are_kept_and_released_ones_are_free_at_once(world):
    await world.event(1)
    (job,) = await world.claim(lease=10)
    world.clock.advance(9)
    lease = pb.Lease(job_id=job.job_id, lease_token=job.lease_token, tenant=job.event.rsplit("/", 2)[0])
    await world.jobs.RenewLeases(pb.RenewLeasesRequest(leases=[lease], lease=Duration(seconds=10)), None)
    world.clock.advance(9)
    assert await world.claim("w2") == []
    released = await world.jobs.ReleaseLeases(pb.ReleaseLeasesRequest(worker="w1"), None)
    assert released.released == 1
    (again,) = await world.claim("w2")
    assert again.attempts == 1, "a clean stop spends no attempt"


async def test_jobs_of_one_call_run_one_after_another(world):
    await world.event(7, "pre_call")
    await world.event(7, "post_call")
    await world.event(8, "post_call")
    first = await world.claim(limit=10)
    assert len(first) == 2, "one of call 7, one of call 8"
    seven = next(job for job in first if job.event_type == "pre_call")
    await world.report(seven, done=pb.JobDone())
    (second,) = await world.claim()
    assert second.event_type == "post_call"


async def test_forty_jobs_of_a_megabyte_are_handed_out_in_answers_that_fit(tmp_path):
    async with opened(tmp_path) as world:
        pad = "x" * 1_000_000
        for n in range(40):
            await world.receipt(
                json.dumps({"id": n, "timestamp": "2026-11-20T07:00:00Z", "pad": pad}).encode()
            )
        await world.admit()
        given = []
        while len(given) < 40:
            request = pb.ClaimJobsRequest(worker="w1", limit=100, lease=Duration(seconds=30))
            answer = await world.jobs.ClaimJobs(request, None)
            assert answer.ByteSize() < MOST_MESSAGE_BYTES / 2
            given += answer.jobs
        assert {job.attempts for job in given} == {1}, "each was leased once"


async def test_a_job_whose_workers_die_with_it_becomes_a_dead_letter_and_the_next_is_given_out(world):
    await world.event(1)
    for _ in range(POLICIES["normalise"].attempts):
        (job,) = await world.claim(lease=10)
        world.clock.advance(11)
    await world.event(2, source="s-2")
    (other,) = await world.claim(limit=1)
    assert other.event.startswith("tenants/globex/")
    assert await world.claim() == []
    story = await world.story(job)
    assert story.state == event_pb2.EVENT_STATE_DEAD_LETTER
    assert "given up after 10 attempts" in story.last_error


async def test_a_job_without_its_receipt_is_buried_and_the_others_are_given_out(world):
    await world.event(1)
    await world.event(2)
    await world.db.write(
        lambda conn: conn.execute(schema.receipts.delete().where(schema.receipts.c.seq == 1))
    )
    world.clock.advance(60)
    (job,) = await world.claim()
    assert b'"id": 2' in job.body
    assert await world.claim() == []
    changed = sa.select(schema.events.c.updated_at).where(schema.events.c.first_seq == 1)
    assert await world.db.read(lambda conn: conn.execute(changed).scalar_one()) == world.clock.now()


CALL = "tenants/acme/calls/c"


class TenantService:
    """What is told of calls, and an error for each call that cannot be told now."""

    def __init__(self):
        self.told, self.tries, self.errors = [], [], {}

    async def __call__(self, request):
        self.tries.append(request.name)
        if error := self.errors.get(request.name):
            raise error
        self.told.append(request)


async def bury_by_claims(world, *calls):
    """Make an event of each call whose workers die with it until a claim buries it; their names, in order."""
    for number in range(len(calls)):
        await world.event(number)
    jobs = await world.claim(lease=10, limit=len(calls))
    for job, call in zip(jobs, calls, strict=True):
        report = pb.JobReport(
            lease=pb.Lease(
                job_id=job.job_id, lease_token=job.lease_token, tenant=job.event.rsplit("/", 2)[0]
            ),
            stage="normalise",
        )
        report.advance.next_stage = "analyse"
        report.checkpoint["normalise"] = call
        await world.jobs.ReportJobs(pb.ReportJobsRequest(worker="w1", reports=[report]), None)
    while await untold(world) < len(calls):  # a claim buries for a tenth of a second, the next one goes on
        world.clock.advance(11)
        await world.claim(lease=10, limit=len(calls))
    return [job.event for job in jobs]


def new_burials(world, tell):
    return Burials(world.db, world.queue, tell)


async def untold(world):
    return await world.db.read(lambda conn: conn.execute(_UNTOLD).scalar_one())


_UNTOLD = sa.select(sa.func.count()).select_from(schema.jobs).where(schema.jobs.c.tell_at.is_not(None))


async def test_the_call_of_a_job_whose_workers_died_with_it_says_that_it_failed(world):
    tell = TenantService()
    (event,) = await bury_by_claims(world, CALL)
    tell.errors[CALL] = Unavailable("the tenant service went away")
    burials = new_burials(world, tell)
    await burials.tell()
    assert tell.told == [], "nobody could be told"
    del tell.errors[CALL]
    world.clock.advance(2)
    await burials.tell()
    await burials.tell()
    (state,) = tell.told
    assert (state.name, state.event, state.state) == (CALL, event, call_pb2.CALL_STATE_FAILED)
    story = await world.events.GetEvent(event_service_pb2.GetEventRequest(name=event), None)
    assert state.state_reason == story.last_error
    attempts = POLICIES["analyse"].attempts
    assert state.state_sequence > sequence(attempts, call_pb2.CALL_STATE_FAILED), "later than its workers"
    assert await untold(world) == 0


async def test_a_call_is_told_by_the_gateway_that_comes_after_the_one_that_was_killed(tmp_path):
    """Nothing of the first gateway is left but its file: no block of it is left, no loop of it ran."""
    clock = FakeClock(NOW)
    url = await new_file(tmp_path)
    config = make_config(tmp_path)
    async with await Database.open(url, schema.metadata, migrations=MIGRATIONS, clock=clock) as db:
        gateway = build(config, db=db, feed=Feed(resolved()), tell_call=nobody)
        (event,) = await bury_by_claims(World(await gateway.__aenter__(), clock), CALL)
    tell = TenantService()
    async with (
        await Database.open(url, schema.metadata, migrations=MIGRATIONS, clock=clock) as db,
        build(config, db=db, feed=Feed(resolved()), tell_call=tell) as gateway,
    ):
        await gateway.burials.tell()
    assert [(state.name, state.event) for state in tell.told] == [(CALL, event)]


@pytest.mark.parametrize(
    "error", [Aborted("raced"), Internal("a bug"), Unavailable("down"), ValueError("odd")]
)
async def test_an_entry_that_always_fails_moves_behind_the_others_and_comes_back_at_growing_intervals(
    world, error
):
    names = [f"{CALL}{n}" for n in range(3)]
    tell = TenantService()
    tell.errors[names[0]] = error
    await bury_by_claims(world, *names)
    burials = new_burials(world, tell)
    await burials.tell()
    assert sorted(state.name for state in tell.told) == names[1:]
    assert await untold(world) == 1
    tried = []
    for second in range(1, 31):
        world.clock.advance(1)
        tell.tries.clear()
        await burials.tell()
        tried += [second] * len(tell.tries)
    assert tried == [2, 6, 14, 30]
    tell.errors.clear()
    world.clock.advance(32)
    await burials.tell()
    assert [state.name for state in tell.told].count(names[0]) == 1
    assert await untold(world) == 0


async def test_a_call_that_can_never_be_told_is_given_up_by_name(world, caplog):
    tell = TenantService()
    tell.errors[CALL] = Internal("a bug")
    await bury_by_claims(world, CALL)
    burials = new_burials(world, tell)
    before = value_of(NOT_TOLD)
    for _ in range(MOST_TRIES):
        await burials.tell()
        world.clock.advance(3600)
    assert len(tell.tries) == MOST_TRIES
    assert await untold(world) == 0
    assert value_of(NOT_TOLD) == before + 1
    await burials.tell()
    assert len(tell.tries) == MOST_TRIES


async def test_a_call_that_is_gone_and_a_job_without_a_call_are_told_to_nobody_twice(world):
    tell = TenantService()
    tell.errors[CALL] = NotFound(CALL)
    await bury_by_claims(world, CALL, "")
    await new_burials(world, tell).tell()
    assert (tell.tries, await untold(world)) == ([CALL], 0)


async def test_an_event_that_goes_on_is_not_said_to_have_failed(world):
    tell = TenantService()
    (event,) = await bury_by_claims(world, CALL)
    await world.events.ReplayEvent(event_service_pb2.ReplayEventRequest(name=event), None)
    await new_burials(world, tell).tell()
    assert tell.tries == []


async def test_a_cancelled_event_is_told_of_also_when_the_request_could_not(world):
    tell = TenantService()
    (event,) = await bury_by_claims(world, CALL)
    await world.events.CancelEvent(event_service_pb2.CancelEventRequest(name=event), None)
    await new_burials(world, tell).tell()
    assert [state.state_reason.partition(":")[0] for state in tell.told] == ["CANCELLED"]


async def test_one_transaction_buries_so_many_and_the_next_claims_go_on(world):
    most = Tries(lambda stage: 1).most_buried
    for number in range(most + 20):
        await world.event(number)
    await world.db.write(
        lambda conn: conn.execute(sa.update(schema.jobs).values(state="leased", attempts=99))
    )
    await world.event(1_000_000)
    await world.claim(limit=10)
    dead = sa.select(sa.func.count()).select_from(schema.jobs).where(schema.jobs.c.state == "dead")
    buried = await world.db.read(lambda conn: conn.execute(dead).scalar_one())
    assert 0 < buried <= most, "fewer on a machine that is busy: time bounds it too"
    (job,) = await world.claim(limit=100, wait=5)
    assert b'"id": 1000000' in job.body
    assert await world.db.read(lambda conn: conn.execute(dead).scalar_one()) == most + 20
