"""What every source of jobs must do: importable checks, each given a World of its own.

A source joins by running every check of CHECKS. What is seen of a job is what a later claim says of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from trunkline_work.model import Advanced, Dead, Done, LeasedJob, Outcome, Report, Retry, Wait
from trunkline_work.source import JobSource, Slots

LEASE_SECONDS = 30.0
NEXT_STAGE = "analyse"
_PATIENCE = 10.0
_LONG = 86_400.0


class World(Protocol):
    """Jobs to claim, and a clock that leases and delays go by."""

    kind: str
    """The kind of the jobs that `add` makes."""
    stage: str
    """The stage that they begin at."""

    def source(self, worker: str) -> JobSource:
        """Return the source as a worker of that name has it, with leases of LEASE_SECONDS."""
        ...

    async def add(self, tenant: str = "acme") -> None:
        """Make one job, which is due now. The tenants are acme and globex."""
        ...

    def advance(self, seconds: float) -> None:
        """Let time pass, by the clock alone."""
        ...


Check = Callable[[World], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def check(work: Check) -> Check:
    """Enrol a check under its name."""
    CHECKS[work.__name__] = work
    return work


def report(job: LeasedJob, outcome: Outcome, **made: str) -> Report:
    """Return a report of a job at its stage."""
    return Report(job, outcome, job.stage, made=made)


async def claimed(source: JobSource, slots: int = 4, wait_seconds: float = 0.0) -> list[LeasedJob]:
    """Claim for a worker that has nothing in work."""
    return list(await source.claim(Slots(slots), wait_seconds))


async def one(source: JobSource) -> LeasedJob:
    """Claim the one job that is due."""
    (job,) = await claimed(source)
    return job


@check
async def a_job_is_leased_to_one_worker_and_says_where_it_is(world: World) -> None:
    """A job that is leased is given to nobody else."""
    await world.add()
    job = await one(world.source("w1"))
    assert (job.kind, job.tenant, job.stage) == (world.kind, "acme", world.stage)
    assert (job.attempts, job.lease_token > 0) == (1, True)
    assert job.stage_began_at is not None
    assert await claimed(world.source("w2")) == []


@check
async def a_claim_waits_for_the_first_job(world: World) -> None:
    """A claim that finds nothing is answered when there is something."""
    source = world.source("w1")
    assert await claimed(source) == []
    waiting = asyncio.create_task(claimed(source, wait_seconds=_PATIENCE))
    await asyncio.sleep(0)
    await world.add()
    assert len(await waiting) == 1


@check
async def no_more_is_claimed_than_there_are_slots(world: World) -> None:
    """A full worker is given nothing before one of its slots is free."""
    source, slots = world.source("w1"), Slots(1)
    await world.add()
    await world.add()
    (first,) = await source.claim(slots, 0.0)
    slots.take(first.kind)
    assert await source.claim(slots, 0.0) == []
    waiting = asyncio.create_task(_claim(source, slots))
    await asyncio.sleep(0)
    assert await source.report([report(first, Done())]) == set()
    slots.give(first.kind)
    source.slot_freed()
    (second,) = await waiting
    assert second.job_id != first.job_id


@check
async def no_more_of_a_kind_is_claimed_than_it_may_have(world: World) -> None:
    """Free slots that a kind may not take stay free of it."""
    source, slots = world.source("w1"), Slots(8, {world.kind: 2})
    for tenant in ("acme", "globex", "acme", "globex"):
        await world.add(tenant)
    for _ in range(3):
        for job in await source.claim(slots, 0.0):
            slots.take(job.kind)
    assert slots.most - slots.free in (1, 2), "a source may keep a slot for a quiet tenant"


@check
async def tenants_take_turns(world: World) -> None:
    """One tenant's jobs do not go before another's."""
    for tenant in ("acme", "acme", "acme", "globex"):
        await world.add(tenant)
    jobs = await claimed(world.source("w1"), slots=3)
    assert {job.tenant for job in jobs} == {"acme", "globex"}


@check
async def what_is_done_is_over(world: World) -> None:
    """A job that is done is not given again."""
    source = world.source("w1")
    await world.add()
    assert await source.report([report(await one(source), Done())]) == set()
    world.advance(_LONG)
    assert await claimed(source) == []


@check
async def what_is_dead_is_over(world: World) -> None:
    """A dead letter is not given again."""
    source = world.source("w1")
    await world.add()
    assert await source.report([report(await one(source), Dead("it is gone"))]) == set()
    world.advance(_LONG)
    assert await claimed(source) == []


@check
async def a_wait_spends_no_attempt(world: World) -> None:
    """A job that waits is given after its delay, as if it had not been tried."""
    source = world.source("w1")
    await world.add()
    first = await one(source)
    assert await source.report([report(first, Wait(60.0, "NOT_READY"))]) == set()
    world.advance(50)
    assert await claimed(source) == []
    world.advance(11)
    again = await one(source)
    assert (again.job_id, again.attempts) == (first.job_id, 1)
    assert again.stage_began_at == first.stage_began_at
    assert again.lease_token > first.lease_token


@check
async def a_wait_in_the_background_comes_back_too(world: World) -> None:
    """What only improves something waits behind the rest."""
    source = world.source("w1")
    await world.add()
    first = await one(source)
    assert await source.report([report(first, Wait(1.0, "DEGRADED", background=True))]) == set()
    world.advance(2)
    assert (await one(source)).job_id == first.job_id


@check
async def a_retry_spends_an_attempt(world: World) -> None:
    """A job that failed is given after its delay, one attempt later."""
    source = world.source("w1")
    await world.add()
    assert await source.report([report(await one(source), Retry(60.0, "INTERNAL"))]) == set()
    world.advance(50)
    assert await claimed(source) == []
    world.advance(11)
    assert (await one(source)).attempts == 2


@check
async def an_advance_keeps_the_lease_and_what_was_made(world: World) -> None:
    """The next stage begins under the same lease, and a later worker goes on there."""
    source = world.source("w1")
    await world.add()
    job = await one(source)
    assert await source.report([report(job, Advanced(NEXT_STAGE), first="n/1")]) == set()
    assert await claimed(world.source("w2")) == []
    assert await source.renew([job]) == set()
    assert await source.report([report(job, Wait(0.0, "NOT_READY"), second="n/2")]) == set()
    world.advance(1)
    again = await one(world.source("w2"))
    assert (again.stage, again.attempts) == (NEXT_STAGE, 1)
    assert dict(again.payload.checkpoint) == {"first": "n/1", "second": "n/2"}


@check
async def reports_of_one_job_are_applied_in_order(world: World) -> None:
    """A failure counts for the stage that was entered just before."""
    source = world.source("w1")
    await world.add()
    job = await one(source)
    failed = Report(job, Retry(0.0, "INTERNAL"), NEXT_STAGE)
    assert await source.report([report(job, Advanced(NEXT_STAGE)), failed]) == set()
    world.advance(1)
    again = await one(source)
    assert (again.stage, again.attempts) == (NEXT_STAGE, 2)


@check
async def a_renewed_lease_lasts(world: World) -> None:
    """A lease that is renewed in time is nobody else's."""
    source = world.source("w1")
    await world.add()
    job = await one(source)
    for _ in range(3):
        world.advance(LEASE_SECONDS * 2 / 3)
        assert await source.renew([job]) == set()
    assert await claimed(world.source("w2")) == []
    assert await source.report([report(job, Done())]) == set()


@check
async def who_lost_a_lease_is_told_and_changes_nothing(world: World) -> None:
    """A lease that ran out is another's, under a later token, and the fence keeps the first holder out."""
    late, source = world.source("w1"), world.source("w2")
    await world.add()
    before = await one(late)
    assert await claimed(source) == []
    world.advance(LEASE_SECONDS + 1)
    after = await one(source)
    assert (after.job_id, after.attempts) == (before.job_id, 2), "the run that vanished was one"
    assert after.lease_token > before.lease_token
    assert await late.renew([before]) == {before.key}
    for outcome in (Done(), Dead("x"), Retry(1.0, "x"), Wait(1.0, "x"), Advanced(NEXT_STAGE)):
        assert await late.report([report(before, outcome)]) == {before.key}
    assert await source.renew([after]) == set()
    assert await source.report([report(after, Done())]) == set()


@check
async def one_lost_lease_takes_no_other_along(world: World) -> None:
    """Reports and renewals that come together are judged one by one."""
    source = world.source("w1")
    await world.add()
    await world.add("globex")
    gone, held = sorted(await claimed(source), key=lambda job: job.tenant)
    assert await source.report([report(gone, Done())]) == set()
    assert await source.renew([gone, held]) == {gone.key}
    assert await source.report([report(gone, Done()), report(held, Done())]) == {gone.key}
    world.advance(_LONG)
    assert await claimed(source) == []


@check
async def what_is_given_back_spends_no_attempt(world: World) -> None:
    """A clean stop gives every lease back, to be claimed at once."""
    source = world.source("w1")
    await world.add()
    await world.add("globex")
    jobs = await claimed(source)
    assert await source.release() == len(jobs) == 2
    assert await source.release() == 0
    again = await claimed(world.source("w2"))
    assert {job.job_id for job in again} == {job.job_id for job in jobs}
    assert {job.attempts for job in again} == {1}


async def _claim(source: JobSource, slots: Slots) -> list[LeasedJob]:
    return list(await source.claim(slots, _PATIENCE))
