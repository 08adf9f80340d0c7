"""The service with providers that fail: everybody is answered, nobody pays twice, and a deadline loses nothing."""

import asyncio
import contextlib
import json

import ai_openai
import ai_vertex
import grpc
import pytest
from ai_openai import Endpoint, refusal
from trunkline.ai.v1 import admin_service_pb2_grpc, analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.common.v1 import purge_pb2
from trunkline_ai.app import build
from trunkline_ai.config import AiConfig
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.testing import KEY_FOLDER

from tests.standins.instant_ai import InstantEngine


class FlakyEndpoint(Endpoint):
    """Every fifth request fails; what it answers is counted by conversation."""

    def __init__(self):
        super().__init__()
        self.paid = {}

    def _usual(self, body):
        if len(self.asked) % 5 == 0:
            return refusal(503)
        said = json.loads(body["messages"][1]["content"])["turns"][0]["text"]
        self.paid[said] = self.paid.get(said, 0) + 1
        return super()._usual(body)


def config(folder, *engines, **more):
    return AiConfig(
        grpc_address="127.0.0.1:0",
        metrics_address="",
        store_url=f"sqlite:///{folder}/ai.db",
        keys=KEY_FOLDER,
        drain_seconds=0.1,
        drain_notice_seconds=0.0,
        engines=engines,
        **more,
    )


@contextlib.asynccontextmanager
async def service(settings, **more):
    async with (
        build(settings, **more) as parts,
        parts.running() as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await server.health.wait_serving()
        yield channel


def signed():
    return (("authorization", f"Bearer {TokenSigner(KEY_FOLDER, 'gateway').service_token(None)}"),)


async def analysis(channel, number=1, *, timeout=60.0, tenant="acme"):
    stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
    request = analysis_service_pb2.AnalyzeCallRequest(
        parent=f"tenants/{tenant}", call=f"tenants/{tenant}/calls/call-{number}", text=f"question {number}"
    )
    return await stub.AnalyzeCall(request, metadata=signed(), timeout=timeout)


async def refused(answer):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return caught.value


async def test_a_provider_that_fails_a_fifth_of_the_time_answers_everybody_and_is_paid_once_each(tmp_path):
    it = FlakyEndpoint()
    async with ai_openai.serving(it):
        settings = config(tmp_path, "openai", openai=ai_openai.settings(it, patience_seconds=60.0))
        async with service(settings) as channel:
            # Each is asked for twice at once: by two workers, or by one that tries again.
            made = await asyncio.gather(*(analysis(channel, n % 200) for n in range(400)))
    assert {one.engine for one in made} == {"openai/m-1"}
    assert not any(one.degraded for one in made)
    assert len({one.name for one in made}) == 200
    assert it.paid == {f"question {n}": 1 for n in range(200)}
    assert len(it.asked) - 200 == len(it.asked) // 5, "a fifth of them failed"


async def test_while_one_provider_is_down_the_next_answers_until_it_is_back(tmp_path):
    async with ai_openai.endpoint() as it:
        with ai_vertex.Vertex() as google:
            google.script = [ai_vertex.Refused(grpc.StatusCode.UNAVAILABLE)] * 2
            settings = config(
                tmp_path,
                "vertex",
                "openai",
                vertex=ai_vertex.settings(google, patience_seconds=0.0),
                openai=ai_openai.settings(it),
                engine_failures=2,
                engine_rest_seconds=1.5,
            )
            async with service(settings) as channel:
                first = await analysis(channel)
                again = await analysis(channel)
                left_alone = await analysis(channel, 2)
                asked = len(google.asked)
                async with asyncio.timeout(20):
                    while (healed := await analysis(channel)).degraded:
                        await asyncio.sleep(0.05)
                later = await analysis(channel)
    assert (first.engine, first.degraded, first.final) == ("openai/m-1", True, False)
    assert again == first
    assert (left_alone.engine, left_alone.degraded) == ("openai/m-1", True)
    assert asked == 2, "its breaker is open"
    assert (healed.name, healed.engine, healed.degraded) == (first.name, "vertex/gemini-x", False)
    assert later == healed
    assert len(it.asked) == 2, "one for each call"


async def test_what_is_blocked_is_final_at_once_and_no_other_provider_gets_it(tmp_path):
    async with ai_openai.endpoint() as it:
        with ai_vertex.Vertex() as google:
            google.script = [ai_vertex.blocked()]
            settings = config(
                tmp_path,
                "vertex",
                "openai",
                vertex=ai_vertex.settings(google),
                openai=ai_openai.settings(it),
            )
            async with service(settings) as channel:
                made = await analysis(channel)
                again = await analysis(channel)
    assert (made.degraded, made.final) == (True, True)
    assert made.engine.startswith("local/")
    assert again == made
    assert (len(google.asked), len(it.asked)) == (1, 0)


class Held(InstantEngine):
    """Answers when it is told to."""

    def __init__(self):
        super().__init__()
        self.gate = asyncio.Event()
        self.asked = self.stopped = 0

    async def analyze(self, transcript, context):
        self.asked += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return await super().analyze(transcript, context)


async def test_an_analysis_that_takes_longer_than_the_deadline_goes_on_and_the_next_try_finds_it(tmp_path):
    engine = Held()
    async with service(config(tmp_path, "local"), engine=engine) as channel:
        error = await refused(analysis(channel, timeout=0.8))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        waiting = asyncio.create_task(analysis(channel))
        await asyncio.sleep(0.1)
        engine.gate.set()
        made = await waiting
        assert await analysis(channel) == made
    assert (engine.asked, engine.stopped) == (1, 0)
    assert not made.degraded


async def test_a_tenant_with_half_of_what_may_wait_is_told_to_come_back_and_another_is_not(tmp_path):
    engine = Held()
    async with service(config(tmp_path, "local", analyses_waiting=4), engine=engine) as channel:
        held = [asyncio.create_task(analysis(channel, n)) for n in (1, 2)]
        async with asyncio.timeout(10):
            while engine.asked < 2:
                await asyncio.sleep(0.01)
        assert (await refused(analysis(channel, 3))).code() is grpc.StatusCode.UNAVAILABLE
        held.append(asyncio.create_task(analysis(channel, 1, tenant="globex")))
        joined = asyncio.create_task(analysis(channel, 1))
        engine.gate.set()
        made = await asyncio.gather(*held, joined)
        assert made[-1] == made[0]
        await analysis(channel, 3)


async def test_the_analysis_of_a_call_that_is_erased_ends(tmp_path):
    engine = Held()
    async with service(config(tmp_path, "local"), engine=engine) as channel:
        held = [asyncio.create_task(analysis(channel, n)) for n in (1, 2)]
        async with asyncio.timeout(10):
            while engine.asked < 2:
                await asyncio.sleep(0.01)
        purge = purge_pb2.PurgeCallsRequest(parent="tenants/acme", calls=["tenants/acme/calls/call-1"])
        await admin_service_pb2_grpc.AdminServiceStub(channel).PurgeCalls(purge, metadata=signed())
        assert (await refused(held[0])).code() is grpc.StatusCode.UNAVAILABLE
        assert engine.stopped == 1
        engine.gate.set()
        assert (await held[1]).engine == engine.name


async def test_the_analyses_of_a_tenant_that_is_deleted_end_and_none_begins(tmp_path):
    engine = Held()
    async with service(config(tmp_path, "local"), engine=engine) as channel:
        held = [asyncio.create_task(analysis(channel, 1, tenant=tenant)) for tenant in ("acme", "globex")]
        async with asyncio.timeout(10):
            while engine.asked < 2:
                await asyncio.sleep(0.01)
        purge = purge_pb2.PurgeTenantRequest(name="tenants/acme")
        await admin_service_pb2_grpc.AdminServiceStub(channel).PurgeTenant(purge, metadata=signed())
        assert (await refused(held[0])).code() is grpc.StatusCode.UNAVAILABLE
        assert (await refused(analysis(channel, 2))).code() is grpc.StatusCode.NOT_FOUND
        assert (engine.asked, engine.stopped) == (2, 1)
        engine.gate.set()
        assert (await held[1]).engine == engine.name
