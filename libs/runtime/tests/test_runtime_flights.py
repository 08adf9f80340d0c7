"""Flights: one run for many askers, and what becomes of it when they give up."""

import asyncio
import contextlib

from trunkline_runtime.flights import Flights


class Work:
    def __init__(self):
        self.begun = self.stopped = 0
        self.gate = asyncio.Event()

    async def __call__(self):
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            await asyncio.sleep(0.01)  # it takes a moment to end
            raise
        return self.begun


async def asking(flights, work, **more):
    task = asyncio.create_task(flights.run("key", work, **more))
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def given_up(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_askers_share_one_run_and_one_that_gives_up_does_not_stop_it():
    flights, work = Flights(), Work()
    first, second = await asking(flights, work), await asking(flights, work)
    await given_up(first)
    work.gate.set()
    assert (await second, work.begun, work.stopped) == (1, 1, 0)
    assert len(flights) == 0


async def test_the_last_asker_who_stops_it_stops_it():
    flights, work = Flights(), Work()
    first, second = await asking(flights, work, stops=True), await asking(flights, work, stops=True)
    await given_up(first)
    assert work.stopped == 0
    await given_up(second)
    await asyncio.sleep(0)
    assert work.stopped == 1


async def test_whoever_asks_while_a_stopped_run_ends_gets_a_run_of_its_own():
    flights, work = Flights(), Work()
    await given_up(await asking(flights, work, stops=True))
    again = await asking(flights, work)
    work.gate.set()
    assert (await again, work.stopped) == (2, 1)


async def test_a_run_that_is_stopped_ends_for_all_who_wait_for_it():
    flights, work = Flights(), Work()
    askers = [await asking(flights, work), await asking(flights, work)]
    flights.stop("other")
    assert work.stopped == 0
    flights.stop("key")
    await asyncio.wait(askers)
    assert all(asker.cancelled() for asker in askers)
    assert work.stopped == 1


async def test_work_that_only_looks_cancelled_is_joined():
    """A library's own timeouts cancel the task for a moment, such as anyio's while it connects."""
    flights, gate, runs = Flights(), asyncio.Event(), []

    async def work():
        runs.append(1)
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await gate.wait()
            asyncio.current_task().uncancel()
        return len(runs)

    first = asyncio.create_task(flights.run("k", work))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(flights.run("k", work))
    await asyncio.sleep(0.01)
    gate.set()
    assert await asyncio.gather(first, second) == [1, 1]
