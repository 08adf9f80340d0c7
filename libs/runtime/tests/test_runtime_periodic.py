"""Periodic work goes on after a failure, and ends with its task."""

from __future__ import annotations

import asyncio

import pytest
from trunkline_runtime.process.periodic import every


async def test_work_is_done_now_and_again_also_after_a_failure():
    done, slept = [], []

    async def work():
        done.append(len(done))
        if len(done) == 2:
            raise ValueError

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await every(7.5, "test", work, sleep=sleep)
    assert (done, slept) == ([0, 1, 2], [7.5, 7.5, 7.5])
