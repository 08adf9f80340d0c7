"""The worker over a source in memory: kinds and their slots, ends of every sort, and stops."""

from __future__ import annotations

import asyncio

import pytest
from trunkline_runtime.errors import InvalidArgument, Unavailable
from trunkline_work import Attempt, Dead, Done, Kind, LeasedJob, Observer, Retry, Terms, Wait, Worker

PATIENCE = 10.0


class Source:
    """Hands out what is put into it, and keeps what is said of it."""

    def __init__(self):
        self.waiting, self.ended, self.failures = [], {}, {}
        self.leased, self.lost, self.renewed = {}, set(), []
        self.doubt, self.changed = asyncio.Event(), asyncio.Condition()
        self.released = 0

    def failed(self, method):
        if self.failures.get(method):
            raise self.failures[method].pop(0)

    async def add(self, *names, kind="quick", token=1):
        async with self.changed:
            self.waiting += [LeasedJob(name, token, kind, "acme", "only", 1, None, name) for name in names]
            self.changed.notify_all()

    def next_of(self, slots):
        free, kinds, found = slots.free, slots.free_of_kinds(), []
        for job in self.waiting:
            if len(found) < free and kinds.get(job.kind, 1) > 0:
                found.append(job)
                kinds[job.kind] = kinds.get(job.kind, free + 1) - 1
        return found

    async def claim(self, slots, wait_seconds):
        self.failed("claim")
        async with self.changed:
            try:
                async with asyncio.timeout(wait_seconds):
                    await self.changed.wait_for(lambda: self.next_of(slots))
            except TimeoutError:
                return []
            found = self.next_of(slots)
            self.waiting = [job for job in self.waiting if job not in found]
            self.leased |= {job.job_id: job for job in found}
            return found

    def slot_freed(self):
        self.notice = asyncio.create_task(self.notify())

    async def notify(self):
        async with self.changed:
            self.changed.notify_all()

    async def renew(self, jobs):
        self.failed("renew")
        self.renewed += [job.job_id for job in jobs]
        await self.notify()
        return {job.key for job in jobs if job.job_id in self.lost}

    async def report(self, reports):
        self.failed("report")
        for report in reports:
            self.leased.pop(report.job.job_id, None)
            self.ended.setdefault(report.job.job_id, []).append(report.outcome)
        await self.notify()
        return set()

    async def release(self):
        self.released += 1
        count, self.leased = len(self.leased), {}
        return count

    async def until(self, ready):
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(ready)


class Seen(Observer):
    def __init__(self):
        self.outcomes, self.most, self.lost_jobs, self.claims_failed = [], 0, [], 0

    def claim_failed(self, error, retry_seconds):
        self.claims_failed += 1

    def running(self, jobs):
        self.most = max(self.most, jobs)

    def ended(self, attempt, outcome):
        self.outcomes.append(outcome)

    def lost(self, attempt):
        self.lost_jobs.append(attempt.leased.job_id)


class Handler:
    """Works when it is let, and fails as told."""

    def __init__(self, source):
        self.source = source
        self.began, self.stopped, self.raises, self.follows = [], [], {}, Retry(1.0, "again")
        self.gate = asyncio.Event()
        self.gate.set()

    async def work(self, attempt):
        name = attempt.leased.payload
        self.began.append(name)
        await self.source.notify()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.stopped.append(name)
            raise
        if name in self.raises:
            raise self.raises[name]
        return f"result of {name}"

    async def policy(self, attempt, error):
        if isinstance(self.follows, Exception):
            raise self.follows
        return self.follows

    def kind(self, name="quick", slots=None):
        return Kind(name, self.work, self.policy, lambda job, tell: Attempt(job), slots)


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def handler(source):
    return Handler(source)


class Running:
    """A worker that runs, until the end of the block; `stop` is what SIGTERM sets."""

    def __init__(self, source, kinds, **terms):
        defaults = {"slots": 4, "lease_seconds": 30.0, "report_seconds": 5.0, "gather_seconds": 0.0}
        self.seen, self.stop = Seen(), asyncio.Event()
        self.worker = Worker(source, kinds, Terms(**{**defaults, **terms}), self.seen)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.worker.run(self.stop))
        return self

    async def __aexit__(self, *_):
        self.stop.set()
        await asyncio.wait_for(self.task, PATIENCE)


async def test_what_a_handler_returns_is_reported(source, handler):
    async with Running(source, [handler.kind()]) as running:
        await source.add("a", "b")
        await source.until(lambda: len(source.ended) == 2)
    assert source.ended == {"a": [Done("result of a")], "b": [Done("result of b")]}
    assert running.seen.outcomes == ["done", "done"]


async def test_a_handler_may_say_that_its_job_goes_on_later(source, handler):
    async def work(attempt):
        return Wait(5.0, "more to do")

    handler.work = work
    async with Running(source, [handler.kind()]) as running:
        await source.add("a")
        await source.until(lambda: source.ended)
    assert source.ended == {"a": [Wait(5.0, "more to do")]}
    assert running.seen.outcomes == ["wait"]


@pytest.mark.parametrize("follows", [Retry(1.0, "x"), Wait(1.0, "x"), Dead("x")])
async def test_a_policy_says_what_follows_from_a_failure(source, handler, follows):
    handler.raises["a"], handler.follows = ValueError("x"), follows
    async with Running(source, [handler.kind()]) as running:
        await source.add("a")
        await source.until(lambda: source.ended)
    assert source.ended == {"a": [follows]}
    assert running.seen.outcomes == [type(follows).__name__.lower()]


async def test_a_kind_takes_no_more_than_its_slots_and_leaves_the_rest(source, handler):
    slow = Handler(source)
    slow.gate.clear()
    async with Running(source, [handler.kind(), slow.kind("slow", slots=1)], slots=3):
        await source.add("s1", "s2", "s3", kind="slow")
        await source.add("a", "b")
        await source.until(lambda: len(source.ended) == 2)
        assert slow.began == ["s1"]
        slow.gate.set()
        await source.until(lambda: len(source.ended) == 5)
    assert slow.began == ["s1", "s2", "s3"]


async def test_no_more_run_than_there_are_slots(source, handler):
    handler.gate.clear()
    async with Running(source, [handler.kind()], slots=2) as running:
        await source.add("a", "b", "c")
        await source.until(lambda: len(handler.began) == 2)
        handler.gate.set()
        await source.until(lambda: len(source.ended) == 3)
    assert running.seen.most == 2


async def test_a_job_of_an_unknown_kind_is_a_dead_letter(source, handler):
    async with Running(source, [handler.kind()]):
        await source.add("a", kind="forgotten")
        await source.until(lambda: source.ended)
    (dead,) = source.ended["a"]
    assert (type(dead), dead.cause.reason) == (Dead, "KIND_UNKNOWN")


async def test_a_bug_in_a_policy_lets_the_lease_run_out(source, handler):
    handler.raises["a"], handler.follows = ValueError("x"), KeyError("y")
    async with Running(source, [handler.kind()], slots=1):
        await source.add("a", "b")
        await source.until(lambda: "b" in source.ended)
        source.lost.add("a")
        source.doubt.set()
        await source.add("c")
        await source.until(lambda: "c" in source.ended)
    assert "a" not in source.ended


async def test_work_that_waits_for_something_that_is_cancelled_lets_the_lease_run_out(source, handler):
    handler.raises["a"] = asyncio.CancelledError()
    async with Running(source, [handler.kind()], slots=1, lease_seconds=3_000.0) as running:
        await source.add("a", "b")
        await source.until(lambda: "b" in source.ended)
        source.renewed.clear()
        handler.gate.clear()
        await source.add("c")
        await source.until(lambda: "c" in handler.began)
        source.doubt.set()
        await source.until(lambda: source.renewed)
        handler.gate.set()
    assert source.renewed == ["c"]
    assert "a" not in source.ended
    assert running.seen.lost_jobs == []


async def test_work_whose_lease_is_lost_stops_as_soon_as_that_is_known(source, handler):
    handler.gate.clear()
    async with Running(source, [handler.kind()], lease_seconds=3_000.0) as running:
        await source.add("a")
        await source.until(lambda: handler.began)
        source.lost.add("a")
        source.doubt.set()
        async with asyncio.timeout(PATIENCE):
            while not handler.stopped:
                await asyncio.sleep(0)
    assert running.seen.lost_jobs == ["a"]
    assert running.seen.outcomes == ["lost"]
    assert source.ended == {}


@pytest.mark.parametrize("fence_only", [False, True])
async def test_a_lease_that_cannot_be_renewed_is_given_up_unless_the_fence_alone_counts(
    source, handler, fence_only
):
    handler.gate.clear()
    source.failures["renew"] = [Unavailable("away")] * 1_000
    async with Running(source, [handler.kind()], lease_seconds=0.0, fence_only=fence_only) as running:
        await source.add("a")
        await source.until(lambda: handler.began)
        async with asyncio.timeout(PATIENCE):
            while not (running.seen.lost_jobs or len(source.failures["renew"]) < 990):
                await asyncio.sleep(0)
        assert running.seen.lost_jobs == ([] if fence_only else ["a"])


async def test_what_no_policy_can_answer_reports_nothing(source, handler):
    handler.raises["a"], handler.follows = ValueError("the lease is another's"), None
    async with Running(source, [handler.kind()]) as running:
        await source.add("a")
        async with asyncio.timeout(PATIENCE):
            while not running.seen.outcomes:
                await asyncio.sleep(0)
    assert running.seen.outcomes == ["lost"]
    assert source.ended == {}


async def test_a_claim_that_fails_is_made_again(source, handler):
    source.failures["claim"] = [Unavailable("away")]
    async with Running(source, [handler.kind()]) as running:
        await source.add("a")
        await source.until(lambda: source.ended)
    assert running.seen.claims_failed == 1


async def test_a_report_that_is_refused_takes_no_other_along(source, handler):
    source.failures["report"] = [InvalidArgument("reports", "one is wrong"), InvalidArgument("a", "is wrong")]
    handler.gate.clear()
    async with Running(source, [handler.kind()]):
        await source.add("a", "b")
        await source.until(lambda: len(handler.began) == 2)
        handler.gate.set()
        await source.until(lambda: source.ended)
    assert len(source.ended) == 1


async def test_a_report_waits_for_a_source_that_is_away(source, handler):
    source.failures["report"] = [Unavailable("away")]
    async with Running(source, [handler.kind()]):
        await source.add("a")
        await source.until(lambda: source.ended)
    assert source.ended["a"] == [Done("result of a")]


async def test_a_report_that_comes_too_late_stops_no_work_under_a_later_lease(source, handler):
    on_its_way, arrived = asyncio.Event(), asyncio.Event()
    report = source.report

    async def slow(reports):
        if reports[0].job.lease_token > 1:
            return await report(reports)
        on_its_way.set()
        await arrived.wait()
        return {job.job.job_id for job in reports}

    source.report = slow
    async with Running(source, [handler.kind()]):
        await source.add("a")
        await on_its_way.wait()
        handler.gate.clear()
        await source.add("a", token=2)
        await source.until(lambda: handler.began == ["a", "a"])
        arrived.set()
        await source.add("b")
        await source.until(lambda: "b" in handler.began)
        handler.gate.set()
        await source.until(lambda: "b" in source.ended)
        assert handler.stopped == []
        assert source.ended["a"] == [Done("result of a")]


@pytest.mark.parametrize("method", ["claim", "renew", "report"])
async def test_what_a_source_may_not_raise_ends_the_worker_and_is_told(source, handler, method):
    source.failures[method] = [AttributeError(method)]
    if method == "renew":
        handler.gate.clear()
    running = Running(source, [handler.kind()], lease_seconds=0.0 if method == "renew" else 30.0)
    await source.add("a")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(AttributeError, match=method):
            await running.worker.run(running.stop)
    assert source.released == 1


async def test_a_stop_gives_back_what_has_not_ended(source, handler):
    handler.gate.clear()
    async with Running(source, [handler.kind()]) as running:
        await source.add("a")
        await source.until(lambda: handler.began)
    assert handler.stopped == ["a"]
    assert running.seen.outcomes == ["released"]
    assert (source.released, source.leased, source.ended) == (1, {}, {})


async def test_a_stop_lets_end_what_ends_in_time(source, handler):
    handler.gate.clear()
    running = Running(source, [handler.kind()], drain_seconds=60.0)
    claiming = asyncio.create_task(running.worker.claim_until(running.stop))
    await source.add("a")
    await source.until(lambda: handler.began)
    running.stop.set()
    await asyncio.wait_for(claiming, PATIENCE)
    await source.add("b")
    closing = asyncio.create_task(running.worker.close())
    await asyncio.sleep(0)
    handler.gate.set()
    await asyncio.wait_for(closing, PATIENCE)
    assert source.ended == {"a": [Done("result of a")]}
    assert [job.job_id for job in source.waiting] == ["b"]


async def test_what_was_claimed_goes_on_after_claiming_ended(source, handler):
    handler.gate.clear()
    running = Running(source, [handler.kind()])
    claiming = asyncio.create_task(running.worker.claim_until(running.stop))
    await source.add("a")
    await source.until(lambda: handler.began)
    running.stop.set()
    await asyncio.wait_for(claiming, PATIENCE)
    handler.gate.set()
    await source.until(lambda: source.ended)
    await running.worker.close()
    assert source.ended == {"a": [Done("result of a")]}
