"""A local queue is a source of jobs like any other, on each engine; and what is particular to it."""

import asyncio
import itertools

import pytest
from trunkline_jobs import LocalJobs, NewJob, Subjects
from trunkline_runtime.errors import Internal, ResourceExhausted
from trunkline_store import StoreBusy
from trunkline_work import Done, Report, Slots
from trunkline_work.testing.conformance import CHECKS, LEASE_SECONDS


class World:
    kind, stage = "pipeline", "normalise"

    def __init__(self, db, queue, clock):
        self.db, self.queue, self.clock = db, queue, clock
        self.ready = asyncio.Event()
        self.numbers = itertools.count()

    def source(self, worker, **more):
        return LocalJobs(
            self.db,
            self.queue,
            worker,
            lease_seconds=LEASE_SECONDS,
            most_attempts=lambda stage: 9,
            ready=self.ready,
            **more,
        )

    async def add(self, tenant="acme", kind="pipeline"):
        job_id = f"j{next(self.numbers):03}"
        job = NewJob(job_id, tenant, kind, f"about-{job_id}", stage=self.stage)
        await self.queue.run(self.queue.enqueue_many, [job])
        self.ready.set()

    def advance(self, seconds):
        self.clock.advance(seconds)


@pytest.fixture
def world(db, queue, clock):
    return World(db, queue, clock)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
async def test_conformance(world, check):
    await check(world)


async def test_a_kind_without_a_free_slot_does_not_hold_up_another(world):
    for _ in range(5):
        await world.add(kind="slow")
    for tenant in ("acme", "acme", "globex"):
        await world.add(tenant, kind="quick")
    source, slots = world.source("w1"), Slots(6, {"slow": 1})
    first = await source.claim(slots, 0.0)
    assert sorted(job.kind for job in first) == ["quick", "quick", "quick", "slow"]
    for job in first:
        slots.take(job.kind)
    await world.add(kind="quick")
    assert [job.kind for job in await source.claim(slots, 0.0)] == ["quick"]
    assert await source.claim(slots, 0.0) == []


async def test_of_a_group_one_is_claimed_of_whatever_kind(world, queue):
    jobs = [
        NewJob(name, "acme", kind, name, stage="normalise", group_key="call-1")
        for name, kind in (("a", "slow"), ("b", "quick"))
    ]
    await queue.run(queue.enqueue_many, jobs)
    source = world.source("w1")
    assert [job.job_id for job in await source.claim(Slots(4, {"slow": 1}), 0.0)] == ["a"]
    assert await source.claim(Slots(4, {"slow": 1}), 0.0) == []


class Notes(Subjects):
    """Keeps what it hears of."""

    keeps_jobs = False

    def __init__(self):
        self.gone, self.buried, self.written, self.failures = set(), [], [], []

    def begun(self, conn, job):
        return None if job.job_id in self.gone else f"note of {job.job_id}"

    def given_up(self, conn, ended):
        self.buried.append(ended.subject)

    def reported(self, conn, report):
        if self.failures:
            raise self.failures.pop(0)

    def committed(self, report):
        self.written.append(report.job.job_id)


async def test_what_jobs_are_about_goes_with_them(world, stored):
    notes = Notes()
    source = world.source("w1", subjects=notes)
    await world.add()
    await world.add()
    notes.gone.add("j000")
    (job,) = await source.claim(Slots(4), 0.0)
    assert job.payload == "note of j001"
    assert await stored("j000") is None, "it was about nothing any more"
    assert await source.report([Report(job, Done(), job.stage)]) == set()
    assert await stored("j001") is None
    assert notes.written == ["j001"]


async def test_a_job_whose_holders_vanish_is_given_up_and_told_of(world, db, queue):
    notes = Notes()
    source = LocalJobs(
        db, queue, "w1", lease_seconds=LEASE_SECONDS, most_attempts=lambda stage: 2, subjects=notes
    )
    await world.add()
    for _ in range(2):
        assert len(await source.claim(Slots(4), 0.0)) == 1
        world.advance(LEASE_SECONDS + 1)
    assert await source.claim(Slots(4), 0.0) == []
    assert notes.buried == ["about-j000"]


@pytest.mark.parametrize(
    ("raised", "told", "transient"),
    [(StoreBusy("no"), ResourceExhausted, True), (ValueError("tenants' own words"), Internal, False)],
)
async def test_a_report_that_is_not_written_says_why_and_changed_nothing(
    world, stored, raised, told, transient
):
    notes = Notes()
    source = world.source("w1", subjects=notes)
    await world.add()
    (job,) = await source.claim(Slots(4), 0.0)
    notes.failures = [raised] * 9
    with pytest.raises(told) as caught:
        await source.report([Report(job, Done(), job.stage)])
    assert caught.value.transient is transient
    assert "words" not in str(caught.value)
    assert notes.written == []
    assert (await stored("j000")).lease_token == job.lease_token
    notes.failures = []
    assert await source.report([Report(job, Done(), job.stage)]) == set()
