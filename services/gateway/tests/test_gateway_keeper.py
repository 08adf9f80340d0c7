"""The keeper: what nobody took is counted by its reason, and stands for a while unless something is taken."""

from __future__ import annotations

import asyncio

import pytest
from gateway_spool import receipt
from trunkline_gateway.hooks.deadlines import NotConfirmed
from trunkline_gateway.intake.keeper import REFUSED, Keeper
from trunkline_gateway.intake.spool import SpoolFull
from trunkline_runtime.testing import value_of
from trunkline_store.errors import StoreBusy, StoreUnavailable


class FakeSpool:
    """Fails as it is told."""

    error: Exception | None = None

    def append(self, row, floor):
        future = asyncio.get_running_loop().create_future()
        if self.error:
            future.set_exception(self.error)
        else:
            future.set_result(None)
        return future


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def count(why):
    return value_of(REFUSED.labels(why))


@pytest.mark.parametrize(("error", "why"), [
    (SpoolFull("it holds what it may"), "spool_full"), (NotConfirmed("late"), "spool_not_confirmed"),
    (StoreUnavailable("database or disk is full"), "store_unavailable"),
])  # fmt: skip
async def test_a_refusal_is_counted_by_its_reason_and_told_until_a_webhook_is_kept(error, why):
    spool, clock = FakeSpool(), Clock()
    keeper = Keeper(spool, 0.5, clock)
    spool.error, before = error, count(why)
    with pytest.raises(type(error)):
        await keeper.keep(receipt(1), 0, "outage")
    assert count(why) == before + 1
    assert keeper.refusing == str(error)
    assert keeper.describe() == [f"webhooks: refused (503): {error}"]
    spool.error = None
    await keeper.keep(receipt(2), 0, "outage")
    assert keeper.refusing == ""
    assert keeper.describe() == []


async def test_where_nobody_sends_any_more_a_refusal_is_forgotten_so_that_the_next_webhook_may_try():
    spool, clock = FakeSpool(), Clock()
    keeper = Keeper(spool, 0.5, clock)
    keeper.refused(StoreUnavailable("full"))
    clock.now += 9
    assert keeper.refusing == "full"
    clock.now += 2
    assert keeper.refusing == ""


def test_a_store_that_is_busy_for_a_moment_refuses_one_and_not_all():
    keeper = Keeper(FakeSpool(), 0.5, Clock())
    keeper.refused(StoreBusy("4096 rows wait"))
    assert keeper.refusing == ""
