"""Tasks on each engine: done once over all processes, in time, and never in each other's way."""

import asyncio
import contextlib

import pytest
import sqlalchemy as sa
from trunkline_jobs import LocalJobs, TaskKind, TaskRunner, Tasks, jobs_table
from trunkline_jobs.tasks import LEASE_SECONDS, MOST_FAILURES
from trunkline_runtime.errors import InvalidArgument, Unavailable
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.process.periodic import SET_ASIDE
from trunkline_work import Slots

METADATA = sa.MetaData()
TABLE = jobs_table(METADATA, "tasks")
PATIENCE = 20.0
PACE = Pace(intervals={"tasks.look": 0.05})


@pytest.fixture
def metadata():
    return METADATA


class Work:
    """Works as it is told, and keeps what it was asked for."""

    def __init__(self):
        self.asked, self.answers, self.failed = [], [], []

    async def __call__(self, tenant, subject):
        self.asked.append((tenant, subject))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fail(self, conn, tenant, subject, reason):
        self.failed = [(tenant, subject, reason)]


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def tasks(db):
    return Tasks(db, TABLE)


def over(tasks, *kinds, **more):
    """Make a runner as another process has it."""
    return TaskRunner(Tasks(tasks.db, TABLE), kinds, pace=PACE, **more)


async def put(tasks, *args, **more):
    await tasks.db.write(lambda conn: tasks.put(conn, *args, **more))
    tasks.soon()


async def rows(tasks):
    return await tasks.db.read(lambda conn: conn.execute(sa.select(TABLE)).all())


async def until(tasks, ready):
    """Wait until the rows are as expected; return them."""
    async with asyncio.timeout(PATIENCE):
        while not ready(found := await rows(tasks)):
            await asyncio.sleep(0.01)
    return found


def idle(found, clock):
    return all(row.state == "waiting" and row.visible_at > clock.now() for row in found)


@contextlib.asynccontextmanager
async def running(*runners):
    loops = [asyncio.create_task(runner.run()) for runner in runners]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def test_a_task_is_done_once_over_all_processes_and_gone_then(tasks, work):
    kind = TaskKind(name="count", work=work, slots=3)
    await put(tasks, "count", *"abcdef", tenant="acme")
    await put(tasks, "count", *"abcdef", tenant="acme")
    async with running(*(over(tasks, kind) for _ in range(2))):
        await until(tasks, lambda found: not found)
    assert sorted(work.asked) == [("acme", subject) for subject in "abcdef"]


async def test_what_there_has_to_be_is_put_at_the_start_once(tasks, work):
    work.answers = [60.0]
    kind = TaskKind(name="sweep", work=work)
    begin = lambda conn: tasks.put(conn, "sweep")  # noqa: E731
    async with running(*(over(tasks, kind, begin=begin) for _ in range(2))):
        await until(tasks, lambda found: found and found[0].state == "waiting" and work.asked)
    assert work.asked == [("-", "")]
    assert len(await rows(tasks)) == 1


async def test_one_that_goes_on_is_run_when_its_time_comes_and_tells_no_story(tasks, work, clock):
    work.answers = [60.0, Unavailable("not now"), 60.0]
    await put(tasks, "sweep")
    async with running(over(tasks, TaskKind(name="sweep", work=work))):
        for times in (1, 2, 3):
            (row,) = await until(tasks, lambda f, t=times: len(work.asked) == t and idle(f, clock))
            assert (row.attempts, bool(row.history)) == ((1, True) if times == 2 else (0, False))
            assert await tasks.db.read(lambda conn: tasks.unsettled(conn, "sweep")) == (times == 2)
            clock.advance(60.0)
        await until(tasks, lambda found: not found)
    assert len(work.asked) == 4


async def test_one_that_fails_is_tried_later_and_later_and_the_others_go_on(tasks, work, clock):
    bad = Work()
    bad.answers = [ValueError("a bug")] * 30
    await put(tasks, "bad")
    before = SET_ASIDE.labels("bad")._value.get()
    kinds = TaskKind(name="bad", work=bad), TaskKind(name="good", work=work)
    delays = []
    async with running(over(tasks, *kinds)):
        for times in range(1, 10):
            (row,) = await until(tasks, lambda f, t=times: len(bad.asked) == t and idle(f, clock))
            delays.append(round((row.visible_at - clock.now()).total_seconds()))
            clock.advance(delays[-1])
        await put(tasks, "good")
        await until(tasks, lambda found: work.asked)
    assert delays[:3] == [2, 4, 8]
    assert delays[-1] == 300
    assert SET_ASIDE.labels("bad")._value.get() >= before + 9


async def test_of_a_kind_that_may_fail_it_is_written_why_and_it_is_over(tasks, work, clock):
    work.answers = [InvalidArgument("filter", "is none")] * 9
    await put(tasks, "replay", "r-1", tenant="acme")
    async with running(over(tasks, TaskKind(name="replay", work=work, failed=work.fail))):
        for _ in range(MOST_FAILURES):
            await until(tasks, lambda found: idle(found, clock))
            clock.advance(300.0)
        await until(tasks, lambda found: not found)
    ((tenant, subject, reason),) = work.failed
    assert (tenant, subject, "filter" in reason) == ("acme", "r-1", True)
    assert len(work.asked) == MOST_FAILURES


async def test_what_comes_while_a_task_ends_is_done(tasks, work):
    left = [False]

    def is_over(conn):
        return left[0]

    await put(tasks, "tell")
    async with running(over(tasks, TaskKind(name="tell", work=work, is_over=is_over))):
        await until(tasks, lambda found: len(work.asked) > 2)
        left[0] = True
        await until(tasks, lambda found: not found)


async def test_the_task_of_a_process_that_was_killed_is_anothers(tasks, work, clock):
    await put(tasks, "replay", "r-1", tenant="acme")
    gone = LocalJobs(
        tasks.db, tasks.queue, "gone", lease_seconds=LEASE_SECONDS, most_attempts=lambda stage: 99
    )
    assert len(await gone.claim(Slots(1), 0.0)) == 1
    async with running(over(tasks, TaskKind(name="replay", work=work, failed=work.fail))):
        await asyncio.sleep(0.2)
        assert work.asked == []
        clock.advance(LEASE_SECONDS + 1)
        await until(tasks, lambda found: not found)
    assert work.asked == [("acme", "r-1")]


async def test_a_task_under_way_at_a_stop_is_given_back(tasks, work, clock):
    began = asyncio.Event()

    async def hangs(tenant, subject):
        began.set()
        await asyncio.Event().wait()

    await put(tasks, "replay", "r-1")
    async with running(over(tasks, TaskKind(name="replay", work=hangs))):
        await asyncio.wait_for(began.wait(), PATIENCE)
    async with running(over(tasks, TaskKind(name="replay", work=work))):
        await until(tasks, lambda found: not found)
    assert work.asked == [("-", "r-1")]


async def test_one_of_a_kind_that_is_not_known_waits_for_who_knows_it(tasks, work, clock):
    await put(tasks, "new", "x")
    async with running(over(tasks, TaskKind(name="old", work=work))):
        await until(tasks, lambda found: idle(found, clock))
    clock.advance(300.0)
    async with running(over(tasks, TaskKind(name="new", work=work))):
        await until(tasks, lambda found: not found)
    assert work.asked == [("-", "x")]


async def test_one_that_waits_can_be_hurried(tasks, work, clock):
    work.answers = [86_400.0]
    await put(tasks, "purge", "a", "b")
    async with running(over(tasks, TaskKind(name="purge", work=work))):
        await until(tasks, lambda found: len(found) == 1 and idle(found, clock))
        await put(tasks, "purge", "a", "b", hurry=True)
        await until(tasks, lambda found: not found)
    assert sorted(work.asked).count(("-", "a")) == 2
