"""How much an engine is asked: so much a minute, waited for in turns, and a second request where it pays."""

import asyncio
import contextlib

import pytest
from trunkline_runtime.engines.fairness import FairLanes
from trunkline_runtime.engines.hedging import Hedge
from trunkline_runtime.engines.rates import BURST_SECONDS, MOST_CORRECTED_SECONDS, Rate, Rates


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


def test_no_limit_is_never_waited_for():
    rate = Rate(0, Clock())
    assert [rate.take(1_000_000) for _ in range(3)] == [0, 0, 0]
    assert rate.wait() == 0


def test_a_large_request_goes_and_the_next_one_waits_for_it():
    clock = Clock()
    rate = Rate(600, clock)
    assert (rate.take(1_000), rate.wait()) == (0, 100)
    rate.take(-900)
    assert rate.wait() == pytest.approx(10), "it used less than was thought"
    clock.now += 3_600
    assert rate.rests
    assert rate.take(600) == 0
    assert rate.wait() == pytest.approx(60 - BURST_SECONDS)


def test_a_count_that_is_wrong_holds_the_next_one_back_for_a_minute_at_most():
    clock = Clock()
    rates = Rates(tokens=100_000, now=clock)
    rates.take("acme", 500)
    for _ in range(3):
        rates.correct("acme", 2**40)
    assert rates.wait("globex") == MOST_CORRECTED_SECONDS


async def test_a_tenants_limit_is_its_own_and_the_engines_is_everybodys():
    clock = Clock()
    rates = Rates(tenant_requests=60, tokens=6_000, now=clock, sleep=clock.sleep)
    rates.take("acme", 100)
    assert rates.wait("acme") == 1
    assert rates.wait("globex") == pytest.approx(1), "100 of 6,000 tokens are a second of everybody's"
    clock.now += 1
    assert rates.wait("globex") == 0
    rates.take("globex", 1_000)
    assert rates.wait("acme") == pytest.approx(10)
    rates.correct("globex", -1_000)
    assert rates.wait("acme") == 0
    await rates.again("acme", 0)
    await rates.again("acme", 0)
    assert clock.now == 2, "each try counts"


class Held:
    """A gate that holds tenants back, and notes who went."""

    def __init__(self, **seconds):
        self.seconds = seconds
        self.went = []

    def wait(self, tenant):
        return self.seconds.get(tenant, 0.0)

    def take(self, tenant, size):
        self.went.append((tenant, size))


async def went(lanes, *askers):
    async def one(tenant, priority, size):
        async with lanes.lane(tenant, priority=priority, size=size):
            await asyncio.sleep(0)

    return [asyncio.create_task(one(*asker)) for asker in askers]


async def test_a_tenant_at_its_limit_holds_nobody_up_and_goes_when_its_time_comes():
    gate = Held(big=0.02)
    lanes = FairLanes(1, gate)
    tasks = await went(lanes, ("big", 0, 7), ("small", 2, 1), ("small", 1, 2))
    for _ in range(9):
        await asyncio.sleep(0)
    assert gate.went == [("small", 1), ("small", 2)] or gate.went == [("small", 2), ("small", 1)]
    assert len(lanes) == 1
    assert not lanes.free("big")
    gate.seconds.clear()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert gate.went[-1] == ("big", 7)
    assert lanes.free("big")


async def test_whose_turn_it_is_is_decided_when_the_limit_allows_it():
    gate = Held(acme=0.02, globex=0.02)
    lanes = FairLanes(1, gate)
    tasks = await went(lanes, ("acme", 2, 1), ("acme", 2, 2), ("globex", 0, 3))
    await asyncio.sleep(0)
    assert gate.went == []
    gate.seconds.clear()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert gate.went == [("globex", 3), ("acme", 1), ("acme", 2)]


class Provider:
    """Answers each request when it is told to."""

    def __init__(self):
        self.requests = []
        self.cancelled = 0
        self.instant = False

    async def __call__(self):
        if self.instant:
            return 0
        gate = asyncio.get_running_loop().create_future()
        self.requests.append(gate)
        try:
            return await gate
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def some_place():
    return contextlib.AsyncExitStack()


@pytest.fixture
async def provider():
    return Provider()


async def warm(hedge, provider):
    provider.instant = True
    for _ in range(20):
        await hedge.ask(provider, some_place)
    provider.instant = False


async def requested(provider, count):
    async with asyncio.timeout(5):
        while len(provider.requests) < count:
            await asyncio.sleep(0)


async def test_the_second_request_answers_where_the_first_takes_long_and_the_first_is_cancelled(provider):
    hedge = Hedge("any", on=True)
    await warm(hedge, provider)
    asked = asyncio.create_task(hedge.ask(provider, some_place))
    await requested(provider, 2)
    provider.requests[1].set_result("second")
    assert await asked == "second"
    assert provider.cancelled == 1


async def test_the_first_may_still_answer_and_a_failed_one_waits_for_the_other(provider):
    hedge = Hedge("any", on=True)
    await warm(hedge, provider)
    asked = asyncio.create_task(hedge.ask(provider, some_place))
    await requested(provider, 2)
    provider.requests[1].set_exception(OSError())
    await asyncio.sleep(0.01)
    provider.requests[0].set_result("first")
    assert await asked == "first"
    assert provider.cancelled == 0


async def test_when_both_fail_the_firsts_error_is_told(provider):
    hedge = Hedge("any", on=True)
    await warm(hedge, provider)
    asked = asyncio.create_task(hedge.ask(provider, some_place))
    await requested(provider, 2)
    provider.requests[1].set_exception(OSError())
    provider.requests[0].set_exception(KeyError("first"))
    with pytest.raises(KeyError, match="first"):
        await asked


async def test_an_asker_that_gives_up_leaves_no_request(provider):
    hedge = Hedge("any", on=True)
    await warm(hedge, provider)
    asked = asyncio.create_task(hedge.ask(provider, some_place))
    await requested(provider, 2)
    asked.cancel()
    await asyncio.wait([asked])
    assert provider.cancelled == 2


async def alone(hedge, provider, spare=some_place):
    """Whether a request that never ends stays the only one."""
    before = len(provider.requests)
    asked = asyncio.create_task(hedge.ask(provider, spare))
    await requested(provider, before + 1)
    await asyncio.sleep(0.02)
    asked.cancel()
    await asyncio.wait([asked])
    return len(provider.requests) == before + 1


async def test_there_is_no_second_request_where_it_is_not_wanted_known_or_possible(provider):
    off, new, full = Hedge("any", on=False), Hedge("any", on=True), Hedge("any", on=True)
    await warm(off, provider)
    await warm(full, provider)
    assert await alone(off, provider)
    assert await alone(new, provider), "nobody knows how long it usually takes"
    assert await alone(full, provider, spare=lambda: None), "there is no place"


async def test_there_is_no_second_request_to_an_engine_whose_last_answer_was_a_failure(provider):
    hedge = Hedge("any", on=True)
    await warm(hedge, provider)
    assert hedge.after_seconds is not None
    failing = asyncio.create_task(hedge.ask(provider, lambda: None))
    await requested(provider, 1)
    provider.requests[0].set_exception(OSError())
    await asyncio.wait([failing])
    assert hedge.after_seconds is None
    assert await alone(hedge, provider)
    await warm(hedge, provider)
    assert hedge.after_seconds is not None
