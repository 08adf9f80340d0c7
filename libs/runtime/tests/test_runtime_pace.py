"""Time as a parameter: intervals by name, and loops that sleep as they are told."""

import asyncio

import pytest
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.periodic import every


def test_an_interval_is_what_its_user_states_unless_the_pace_says_otherwise():
    pace = Pace(intervals={"inbox.look": 0.005})
    assert (pace.interval("inbox.look", 0.25), pace.interval("jobs.look", 0.5)) == (0.005, 0.5)
    assert MACHINE.interval("inbox.look", 0.25) == 0.25


async def test_periodic_work_sleeps_at_the_pace_that_it_is_given():
    slept, done = [], []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    async def work():
        done.append(1)

    with pytest.raises(asyncio.CancelledError):
        await every(600.0, "work", work, sleep=Pace(sleep=sleep).sleep)
    assert (slept, len(done)) == ([600.0] * 3, 3)
