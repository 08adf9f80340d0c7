"""What engines of speech cost goes to the tenant service; a spent budget leaves those that cost nothing."""

import asyncio
import contextlib
from dataclasses import replace

import grpc
from test_audio_chain import Named
from test_audio_service import failing, serving
from trunkline.tenant.v1 import cost_pb2
from trunkline_runtime.engines.base import EngineError, EngineUsage
from trunkline_runtime.process.pace import Pace

from tests.standins.costs import costs_served


class Paid(Named):
    """An engine that costs 160 millionths of a dollar a recording."""

    __test__ = False
    is_free = False

    def __init__(self, name="paid", failure=None):
        super().__init__(name, failure)
        self.result = replace(self.result, usage=EngineUsage(0.6, cost_micros=160))


@contextlib.asynccontextmanager
async def suite(tmp_path, *engines, told=None, pace=None):
    async with costs_served() as (costs, address):
        costs.state = told or costs.state
        chain = {engine.name.partition("/")[0]: engine for engine in engines}
        pace = pace or Pace(intervals={"tasks.look": 0.05})
        async with serving(tmp_path, chain=chain, tenant_address=address, pace=pace) as made:
            await made.fetch()
            yield made, costs


async def charged(costs, count):
    async with asyncio.timeout(20):
        while len(costs.charges) < count:
            await asyncio.sleep(0.02)
    return [(parent, one.engine, one.usage.cost_micros) for (parent, _), one in sorted(costs.charges.items())]


SOON = Pace(sleep=lambda seconds: asyncio.sleep(min(seconds, 0.05)))


async def test_a_transcript_is_charged_once_and_one_that_is_taken_over_is_not(tmp_path):
    async with suite(tmp_path, Paid(), pace=SOON) as (made, costs):
        await made.transcribe()
        await made.transcribe()
        await made.fetch(identity="rec-2")
        assert (await made.transcribe("rec-2")).reused
        assert await charged(costs, 1) == [("tenants/acme", "paid/1", 160)]
        await made.transcribe(generation=1)
        assert len(await charged(costs, 2)) == 2


async def test_what_failed_and_was_paid_for_is_charged_too(tmp_path):
    failure = EngineError("ENGINE_UNAVAILABLE", "not now", transient=True)
    failure.usage = EngineUsage(55.0, cost_micros=14_667)
    async with suite(tmp_path, Paid(failure=failure), Named("free"), pace=SOON) as (made, costs):
        assert (await made.transcribe()).degraded
        assert await charged(costs, 1) == [("tenants/acme", "paid/1", 14_667)]


async def test_once_a_budget_is_spent_an_engine_that_costs_nothing_answers_for_good(tmp_path):
    engines = Paid(), Named("free")
    async with suite(tmp_path, *engines, told=cost_pb2.BUDGET_STATE_SPENT) as (made, _):
        transcript = await made.transcribe()
        assert (transcript.engine, transcript.wanted_engine) == ("free/1", "paid")
        assert (transcript.degraded_reason, transcript.degraded_final) == ("BUDGET_SPENT", True)
        assert engines[0].calls == 0


async def test_where_every_engine_costs_something_a_recording_waits(tmp_path):
    async with suite(tmp_path, Paid(), told=cost_pb2.BUDGET_STATE_SPENT) as (made, _):
        error = await failing(made.transcribe())
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUDGET_SPENT")
        assert error.retry_after == 900


async def test_an_engine_that_costs_nothing_is_asked_without_a_look_at_the_budget(tmp_path):
    async with suite(tmp_path, Named("free"), told=cost_pb2.BUDGET_STATE_SPENT) as (made, costs):
        assert not (await made.transcribe()).degraded
        assert costs.asked == 0
