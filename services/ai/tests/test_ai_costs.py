"""What remote engines cost goes to the tenant service, once an answer; a spent budget leaves the local engine."""

import asyncio
import contextlib

import grpc
import pytest
from trunkline.ai.v1 import analysis_service_pb2_grpc
from trunkline.tenant.v1 import cost_pb2
from trunkline_ai.app import build
from trunkline_ai.config import AiConfig
from trunkline_ai.engines.base import Prompt
from trunkline_ai.engines.charged import ChargedModel
from trunkline_ai.engines.openai.engine import OpenAiEngine
from trunkline_ai.engines.prompts.schemas import TEXT, record
from trunkline_ai.schema import metadata
from trunkline_runtime.engines.account import Account
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.testing import KEY_FOLDER

from tests.integration.migrated_file import migrated_file
from tests.standins.costs import costs_served

from .ai_openai import Scripted, endpoint, events, refusal, settings
from .test_ai_service import ask, signed


class Suite:
    def __init__(self, it, costs, parts, stub):
        self.it, self.costs, self.parts, self.stub = it, costs, parts, stub

    async def analyse(self, **fields):
        return await self.stub.AnalyzeCall(ask(**fields), metadata=signed())

    async def tell(self):
        return await self.parts.outbox.deliver(self.parts.teller.tell, self.parts.teller.failed)


async def never(_seconds):
    """A loop runs once, at the start; the test tells when it likes."""
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def running(folder, it, costs, address, **more):
    config = AiConfig(
        grpc_address="127.0.0.1:0",
        metrics_address="",
        store_url=await migrated_file(folder / "ai.db", metadata, "trunkline_ai.migrations"),
        keys=KEY_FOLDER,
        drain_seconds=0.1,
        drain_notice_seconds=0.0,
        tenant_address=address,
        engines=("openai",),
        openai=settings(it, **{"model": "gpt-4.1-mini", "patience_seconds": 0.0, **more}),
    )
    async with build(config, pace=Pace(sleep=never)) as parts, parts.running() as serving:
        await serving.health.wait_serving()
        async with grpc.aio.insecure_channel(serving.address) as channel:
            stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
            yield Suite(it, costs, parts, stub)


@pytest.fixture
async def suite(tmp_path):
    async with (
        endpoint() as it,
        costs_served() as (costs, address),
        running(tmp_path, it, costs, address) as made,
    ):
        yield made


async def test_an_answer_is_charged_at_the_price_of_its_model(suite):
    made = await suite.analyse()
    assert made.usage.cost_micros == round(120 * 0.4 + 30 * 1.6)
    await suite.tell()
    [((parent, _), charge)] = suite.costs.charges.items()
    assert (parent, charge.engine, charge.unpriced) == ("tenants/acme", made.engine, False)
    assert charge.usage == made.usage


async def test_a_stored_answer_adds_nothing_and_a_higher_generation_does(suite):
    await suite.analyse()
    await suite.analyse()
    await suite.tell()
    assert len(suite.costs.charges) == 1
    await suite.analyse(generation=1)
    await suite.tell()
    assert len(suite.costs.charges) == 2


async def test_an_answer_that_is_of_no_use_is_charged_too(suite):
    suite.it.script = [Scripted(events("this is no JSON"))]
    assert not (await suite.analyse()).degraded, "made again, and charged again"
    await suite.tell()
    assert suite.costs.costs == [96, 96]


async def test_answers_of_no_use_are_paid_for_three_times_and_then_the_local_one_is_final(suite):
    suite.it.script = [Scripted(events("this is no JSON")) for _ in range(9)]
    made = await suite.analyse()
    assert (made.degraded, made.degraded_reason, made.final) == (True, "ANSWER_MALFORMED", True)
    assert await suite.analyse() == made
    await suite.tell()
    assert suite.costs.costs == [96] * 3


async def test_no_answer_costs_nothing(suite):
    suite.it.script = [refusal(500)]
    assert (await suite.analyse()).degraded
    assert await suite.tell() == 0


async def test_charges_wait_for_the_tenant_service_and_survive_a_restart(tmp_path):
    async with endpoint() as it, costs_served() as (costs, address):
        costs.out_of_order = grpc.StatusCode.UNAVAILABLE
        async with running(tmp_path, it, costs, address) as suite:
            await suite.analyse()
            assert await suite.tell() == 0
        costs.out_of_order = None
        async with running(tmp_path, it, costs, address) as suite:
            await asyncio.sleep(0)
            await suite.tell()
        assert costs.costs == [96]


async def test_charges_of_a_deleted_tenant_are_dropped(suite):
    await suite.analyse()
    suite.costs.out_of_order = grpc.StatusCode.NOT_FOUND
    await suite.tell()
    suite.costs.out_of_order = None
    assert await suite.tell() == 0
    assert suite.costs.charges == {}


async def test_once_a_budget_is_spent_the_local_engine_answers_for_good(suite):
    suite.costs.state = cost_pb2.BUDGET_STATE_SPENT
    made = await suite.analyse()
    assert made.engine.startswith("local/")
    assert (made.degraded, made.degraded_reason, made.final) == (True, "BUDGET_SPENT", True)
    assert suite.it.asked == []
    assert await suite.tell() == 0


async def test_a_budget_that_is_spent_while_requests_wait_stops_those():
    class Spent:
        spent = False

        async def is_spent(self, _tenant):
            return self.spent

    async def keep(_tenant, _id, _message):
        budgets.spent = True

    budgets = Spent()
    account = Account(budgets)
    account.keep = keep
    async with endpoint() as it:
        more = {
            "model": "gpt-4.1-mini",
            "requests_at_once": 1,
            "input_price_micros": 9,
            "output_price_micros": 9,
        }
        async with OpenAiEngine(settings(it, **more)) as model:
            charged = ChargedModel(model, account)
            prompts = [Prompt("any.v1", "Answer.", f'{{"n": {n}}}', "acme") for n in range(5)]
            asking = (charged.complete(prompt, record(title=TEXT)) for prompt in prompts)
            answers = await asyncio.gather(*asking, return_exceptions=True)
        assert len(it.asked) == 1
    assert [getattr(one, "reason", "") for one in answers] == ["", *["BUDGET_SPENT"] * 4]


async def test_a_budget_that_only_reports_stops_nothing(suite):
    suite.costs.state, suite.costs.action = cost_pb2.BUDGET_STATE_SPENT, cost_pb2.BUDGET_ACTION_REPORT
    assert not (await suite.analyse()).degraded


async def test_a_budget_is_asked_for_once_in_seconds(suite):
    for generation in range(5):
        await suite.analyse(generation=generation)
    assert suite.costs.asked == 1


async def test_a_budget_that_is_not_known_stops_nothing(suite):
    suite.costs.out_of_order = grpc.StatusCode.INTERNAL
    assert not (await suite.analyse()).degraded


@pytest.mark.parametrize(("prices", "asked"), [((0, 0), 1), ((-1, -1), 0), ((0, 5), 0)])
async def test_a_spent_budget_lets_only_a_free_model_be_asked(tmp_path, prices, asked):
    async with endpoint() as it, costs_served() as (costs, address):
        costs.state = cost_pb2.BUDGET_STATE_SPENT
        more = {
            "model": "of-our-own", "input_price_micros": prices[0], "output_price_micros": prices[1],
        }  # fmt: skip
        async with running(tmp_path, it, costs, address, **more) as suite:
            await suite.analyse()
            assert len(it.asked) == asked


async def test_a_model_without_a_price_is_charged_as_such(tmp_path):
    async with (
        endpoint() as it,
        costs_served() as (costs, address),
        running(tmp_path, it, costs, address, model="of-our-own") as suite,
    ):
        await suite.analyse()
        await suite.tell()
    [charge] = costs.charges.values()
    assert (charge.unpriced, charge.usage.cost_micros, charge.usage.input_tokens) == (True, 0, 120)
