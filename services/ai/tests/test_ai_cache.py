"""The cache of models' answers: what is the same question, where answers are kept, and how they go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import replace

import grpc
import pytest
import zstandard
from ai_engines_conformance import CALL, MODEL_CHECKS, ask, said
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from trunkline.ai.v1 import analysis_service_pb2, analysis_service_pb2_grpc
from trunkline_ai.app import build
from trunkline_ai.cache.answers import MOST_BYTES, Answer, BrokenAnswer
from trunkline_ai.cache.engine import CachedEngine
from trunkline_ai.cache.keys import question_of
from trunkline_ai.cache.memory import MOST_CALLS
from trunkline_ai.cache.settings import CacheSettings
from trunkline_ai.cache.tiers import AnswerCache
from trunkline_ai.config import AiConfig
from trunkline_ai.engines.base import Completion, Finish, LanguageCapabilities, SpeakerRole
from trunkline_ai.engines.prompted import PromptedEngine
from trunkline_ai.engines.prompts import analyse_call
from trunkline_runtime.digests import letters
from trunkline_runtime.engines.account import usage_message
from trunkline_runtime.engines.base import EngineError, EngineUsage
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.testing import KEY_FOLDER

from tests.redises import free_port, redis_server, started
from tests.standins.completing_ai import least

SCHEMA = analyse_call.SCHEMA
ROBOCALL = (
    "hello this is an important message about your business listing our records show that your business is not "
    "verified with search engines if you do not act today your listing may be marked as closed to customers press the "
    "star key to speak with a listing specialist now or press the pound key to be removed from our list thank you"
)


class Model:
    """Answers with the number of the question, and counts."""

    name = "model/1"
    problem = ""
    capabilities = LanguageCapabilities()

    def __init__(self, **answer):
        self.asked = 0
        self.answer = answer
        self.finish = Finish.DONE
        self.text = None
        self.gate = None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def complete(self, prompt, schema):
        self.asked += 1
        number = self.asked
        if self.gate is not None:
            await self.gate.wait()
        text = (
            self.text
            if self.text is not None
            else json.dumps({**least(schema), "summary": f"answer {number}", **self.answer})
        )
        return Completion(self.name, text, self.finish, EngineUsage(0.0, 100, 20, cost_micros=70))


class Clock:
    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


def prompt(words="my basement floods", tenant="acme", call="call-1", **more):
    conversation = said((SpeakerRole.CUSTOMER, words), tenant_id=tenant, call_id=call, **more)
    return analyse_call.prompt_of(conversation.transcript, conversation.context)


def settings(**more):
    return CacheSettings(**{"similar": False, **more})


@contextlib.asynccontextmanager
async def cached(model=None, clock=time.time, secret="s3cret", **more):
    """A model with a cache of its own; `model.cache` is that."""
    model = model or Model()
    async with AnswerCache(settings(**more), lambda: secret, clock=clock) as cache:
        engine = CachedEngine(model, cache)
        engine.cache = cache
        yield engine


async def summary(engine, *arguments, **more):
    completion = await engine.complete(prompt(*arguments, **more), SCHEMA)
    return json.loads(completion.text)["summary"]


async def settled(cache):
    """Wait for what is written beside the answers."""
    while cache._beside:
        await asyncio.sleep(0.01)


def counted(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_the_same_question_is_paid_for_once_and_says_so():
    model, saved = Model(), counted("trunkline_ai_cache_saved_micros_total")
    async with cached(model) as engine:
        first = await engine.complete(prompt(), SCHEMA)
        again = await engine.complete(prompt(call="call-2"), SCHEMA)
    assert first.usage == EngineUsage(0.0, 100, 20, 70)
    assert again == replace(first, usage=EngineUsage(cached=True))
    assert usage_message(again.usage).cached
    assert model.asked == 1
    assert counted("trunkline_ai_cache_saved_micros_total") == saved + 70


async def test_what_an_answer_depends_on_makes_another_question():
    async with cached() as engine:
        asked = [
            prompt(),
            prompt("my basement floods!"),
            prompt("My basement floods"),
            prompt(tenant="globex"),
            prompt(voicemail=True),
            prompt(language="es"),
            prompt(generation=1),
            replace(prompt(), name="analyse_call.v9"),
            replace(prompt(), instructions="Answer."),
        ]
        for one in asked:
            await engine.complete(one, SCHEMA)
        other = {**SCHEMA, "properties": {"summary": {"type": "string"}}}
        await engine.complete(prompt(), other)
        assert engine.engine.asked == len(asked) + 1
        engine.engine.name = "model/2"
        await engine.complete(prompt(), SCHEMA)
        assert engine.engine.asked == len(asked) + 2


async def test_spaces_and_spellings_of_a_letter_make_none():
    async with cached() as engine:
        assert await summary(engine, "un caf\u00e9, please") == "answer 1"
        assert await summary(engine, "  un  cafe\u0301,\n please ") == "answer 1"


async def test_a_prompt_without_a_tenant_is_always_asked():
    async with cached() as engine:
        assert [await summary(engine, tenant="") for _ in range(2)] == ["answer 1", "answer 2"]


@pytest.mark.parametrize("off", [{"hours": 0.0}, {"memory_bytes": 0}])
async def test_a_cache_that_is_turned_off_asks_each_time(off):
    async with cached(**off) as engine:
        assert [await summary(engine) for _ in range(2)] == ["answer 1", "answer 2"]


@pytest.mark.parametrize(
    ("finish", "text"),
    [
        (Finish.CUT, json.dumps(least(SCHEMA))),
        (Finish.BLOCKED, ""),
        (Finish.DONE, "not JSON"),
        (Finish.DONE, "[" * 100_000),
        (Finish.DONE, json.dumps({**least(SCHEMA), "lead_score": "101"})),
        (Finish.DONE, json.dumps({**least(SCHEMA), "summary": "x" * (MOST_BYTES + 1)})),
        (Finish.DONE, json.dumps({**least(SCHEMA), "\ud800": 1}, ensure_ascii=False)),
    ],
)
async def test_an_answer_that_is_not_whole_is_not_kept(finish, text):
    model = Model()
    model.finish, model.text = finish, text
    async with cached(model) as engine:
        for asked in (1, 2):
            completion = await engine.complete(prompt(), SCHEMA)
            assert (completion.finish, completion.text, completion.usage.cost_micros) == (finish, text, 70)
            assert model.asked == asked


async def test_a_failure_is_not_kept():
    class Failing(Model):
        async def complete(self, prompt, schema):
            if not self.asked:
                self.asked = 1
                raise EngineError("QUOTA", "later", transient=True)
            return await super().complete(prompt, schema)

    async with cached(Failing()) as engine:
        with pytest.raises(EngineError):
            await summary(engine)
        assert await summary(engine) == "answer 2"


async def test_askers_at_once_share_one_answer_and_one_pays():
    model = Model()
    model.gate = asyncio.Event()
    async with cached(model) as engine:
        asking = [asyncio.create_task(engine.complete(prompt(call=f"call-{n}"), SCHEMA)) for n in range(20)]
        await asyncio.sleep(0)
        model.gate.set()
        completions = await asyncio.gather(*asking)
    assert model.asked == 1
    assert sorted(one.usage.cost_micros for one in completions) == [0] * 19 + [70]
    assert sum(one.usage.cached for one in completions) == 19


@pytest.mark.parametrize("others", [0, 1])
async def test_what_nobody_waits_for_any_more_is_not_asked(others):
    model = Model()
    model.gate = asyncio.Event()
    async with cached(model) as engine:
        asking, *more = (asyncio.create_task(engine.complete(prompt(), SCHEMA)) for _ in range(1 + others))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(0)
        assert len(engine.cache.flights) == others
        model.gate.set()
        costs = [(await one).usage.cost_micros for one in more]
        costs.append((await engine.complete(prompt(), SCHEMA)).usage.cost_micros)
    assert (model.asked, sum(costs)) == (2 - others, 70)


async def test_an_answer_ends_when_its_hours_are_over():
    clock = Clock()
    async with cached(clock=clock) as engine:
        await summary(engine)
        clock.now += 24 * 3600 - 1
        assert await summary(engine) == "answer 1"
        clock.now += 2
        assert await summary(engine) == "answer 2"
        clock.now += 25 * 3600
        await engine.cache.sweep()
        assert counted("trunkline_ai_cache_memory_bytes") == 0


async def test_memory_is_bounded():
    async with cached(memory_bytes=20_000) as engine:
        for number in range(100):
            await summary(engine, f"words {number}")
            assert 0 < counted("trunkline_ai_cache_memory_bytes") <= 20_000
        assert await summary(engine, "words 99") == "answer 100"
        assert await summary(engine, "words 0") == "answer 101"


async def test_the_calls_of_an_answer_are_within_the_memory_too():
    async with cached(memory_bytes=20_000) as engine:
        seen = []
        for number in range(300):
            await summary(engine, call=f"call-{number}")
            seen.append(counted("trunkline_ai_cache_memory_bytes"))
        assert 10_000 < max(seen) <= 20_000
        assert engine.engine.asked < 10
        await engine.cache.forget("acme", ["call-299"])
        assert counted("trunkline_ai_cache_memory_bytes") == 0


async def test_an_answer_that_served_too_many_calls_is_made_again():
    async with cached() as engine:
        for number in range(MOST_CALLS):
            assert await summary(engine, call=f"call-{number}") == "answer 1"
        assert await summary(engine, call="another") == "answer 2"


@pytest.mark.parametrize("calls", [None, ["call-1"], ["call-2"]], ids=["tenant", "first", "second"])
async def test_a_deleted_tenants_and_an_erased_calls_answers_go_and_stay_away(calls):
    async with cached() as engine:
        await summary(engine)
        await summary(engine, call="call-2")
        await summary(engine, "other words", call="call-3")
        await summary(engine, tenant="globex")
        await engine.cache.forget("acme", calls)
        asked = engine.engine.asked
        await summary(engine, tenant="globex")
        await summary(engine, "other words", call="call-3")
        assert engine.engine.asked == asked + (calls is None)
        erased = (calls or ["call-1"])[0]
        asked = engine.engine.asked
        await summary(engine, call=erased)
        await summary(engine, call=erased)
        assert engine.engine.asked == asked + 2, "nothing more is kept for it"


async def test_an_answer_that_comes_after_the_erasure_is_not_kept():
    model = Model()
    model.gate = asyncio.Event()
    async with cached(model) as engine:
        asking = asyncio.create_task(engine.complete(prompt(), SCHEMA))
        await asyncio.sleep(0)
        await engine.cache.forget("acme", ["call-1"])
        model.gate.set()
        await asking
        assert await summary(engine, call="call-2") == "answer 2"


@pytest.mark.parametrize("first", ["call-1", "call-2"])
async def test_what_served_a_call_is_dropped_and_kept_again_when_it_is_asked_again(first):
    async with cached(similar=True) as engine:
        await summary(engine)
        await summary(engine, call="call-2")
        await summary(engine, "other words", call="call-3")
        await engine.cache.drop("acme", first)
        assert await summary(engine, "other words", call="call-3") == "answer 2"
        assert [await summary(engine, call=first) for _ in range(2)] == ["answer 3", "answer 3"]


async def test_a_script_is_dropped_with_its_call():
    model = Model(intent="robocall", spam_score=0.9)
    async with cached(model, similar=True) as engine:
        for asked in (1, 2):
            await engine.complete(prompt(ROBOCALL), SCHEMA)
            assert model.asked == asked
            await engine.cache.drop("acme", "call-1")
            assert len(engine.cache._scripts) == 0


# Redis


@pytest.fixture
def redis(tmp_path):
    with redis_server(tmp_path) as (url, process):
        yield url, process


async def test_replicas_share_answers_in_redis_and_keep_what_they_found(redis):
    url, process = redis
    async with cached(redis=url) as one, cached(redis=url) as other:
        assert await summary(one) == "answer 1"
        await settled(one.cache)
        found = await other.complete(prompt(call="call-2"), SCHEMA)
        assert json.loads(found.text)["summary"] == "answer 1"
        assert (found.usage, other.engine.asked) == (EngineUsage(cached=True), 0)
        process.kill()
        process.wait()
        assert await summary(other) == "answer 1"


async def test_what_is_in_redis_ends_when_its_hours_are_over(redis):
    clock = Clock()
    async with cached(redis=redis[0], clock=clock) as one, cached(redis=redis[0], clock=clock) as other:
        await summary(one)
        await settled(one.cache)
        clock.now += 23 * 3600
        assert await summary(other) == "answer 1"
        clock.now += 2 * 3600
        assert await summary(other) == "answer 1", "its own first one"
        assert other.engine.asked == 1


async def test_nothing_that_was_said_can_be_read_in_redis(redis):
    async with (
        cached(Model(summary="zebra " * 400), redis=redis[0]) as engine,
        Redis.from_url(redis[0]) as client,
    ):
        await summary(engine)
        await settled(engine.cache)
        held = [(name, await client.dump(name)) for name in await client.keys()]
        assert len(held) == 2
        assert not any(b"zebra" in name + value or b"basement" in name + value for name, value in held)
        assert max(len(value) for _, value in held) < 1_000, "it is compressed"
        key = question_of(prompt(), SCHEMA, "model/1", "").key
        assert not any(key in value or letters(key, 52).encode() in name for name, value in held)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "moved", "other_key", "plain"])
async def test_a_value_that_this_service_did_not_write_for_this_question_is_a_miss(redis, damage):
    broken = counted("trunkline_ai_cache_broken_total")
    async with cached(redis=redis[0]) as one, Redis.from_url(redis[0]) as client:
        await summary(one)
        await settled(one.cache)
        (name,) = await client.keys("*:answer:*")
        value = await client.get(name)
        await summary(one, "other words")
        await settled(one.cache)
        (other_name,) = set(await client.keys("*:answer:*")) - {name}
        told = {
            "flipped": value[:20] + bytes([value[20] ^ 1]) + value[21:],
            "cut": value[:30],
            "empty": b"",
            "moved": await client.get(other_name),
            "plain": Answer("model/1", "{}", time.time()).packed(),
        }
        await client.set(name, told.get(damage, value))
        secret = "another" if damage == "other_key" else "s3cret"
        async with cached(redis=redis[0], secret=secret) as other:
            assert await summary(other) == "answer 1"
            assert other.engine.asked == 1
    # With another key, it has another name.
    assert counted("trunkline_ai_cache_broken_total") == broken + (damage != "other_key")


@pytest.mark.parametrize("calls", [None, ["call-1"], ["call-2"]], ids=["tenant", "first", "second"])
async def test_erasures_reach_redis_and_the_memory_of_other_replicas(redis, calls):
    async with (
        cached(redis=redis[0]) as one,
        cached(redis=redis[0]) as other,
        Redis.from_url(redis[0]) as client,
    ):
        await summary(one)
        await settled(one.cache)
        await summary(other, call="call-2")
        await summary(other, tenant="globex")
        await settled(other.cache)
        await one.cache.forget("acme", calls)
        assert len(await client.keys("*:answer:*")) == 1
        await other.cache.sweep()
        assert await summary(other, call="call-3") == "answer 2", "the first was globex's"
        await settled(other.cache)
        assert len(await client.keys("*:answer:*")) == (1 if calls is None else 2)
        assert await summary(other, tenant="globex") == "answer 1"


@pytest.mark.parametrize("written", [b"\xff", b"=not hex", "=é".encode()])
async def test_a_mark_that_nobody_here_wrote_hides_no_erasure_behind_it(redis, written):
    async with (
        cached(redis=redis[0]) as one,
        cached(redis=redis[0]) as other,
        Redis.from_url(redis[0]) as client,
    ):
        await summary(other)
        await settled(other.cache)
        await client.zadd("trunkline:ai:erased", {written: time.time()})
        await one.cache.forget("acme")
        await other.cache.sweep()
        question = other.cache.question(prompt(), SCHEMA, other.name)
        assert other.cache.remembered(question) is None


async def test_what_is_dropped_goes_in_redis_and_in_other_replicas_and_may_come_again(redis):
    model = Model(intent="robocall", spam_score=0.9)
    async with (
        cached(redis=redis[0], similar=True) as one,
        cached(model, redis=redis[0], similar=True) as other,
        Redis.from_url(redis[0]) as client,
    ):
        await other.complete(prompt(ROBOCALL), SCHEMA)
        await summary(other, "other words", call="call-2")
        await settled(other.cache)
        await one.cache.drop("acme", "call-1")
        assert len(await client.keys("*:answer:*")) == 1
        await other.cache.sweep()
        for _ in range(2):
            await other.complete(prompt(ROBOCALL), SCHEMA)
            assert model.asked == 3, "asked anew, and kept"
        assert await summary(other, "other words", call="call-2") == "answer 2"
        await settled(other.cache)
        assert len(await client.keys("*:answer:*")) == 2


@pytest.mark.parametrize("way", ["forget", "drop"])
async def test_what_served_a_call_while_redis_could_not_hear_of_it_goes_there_too(tmp_path, way):
    port = free_port()
    process = started(port, tmp_path)
    try:
        async with (
            cached(redis=f"redis://127.0.0.1:{port}/0") as engine,
            Redis.from_url(f"redis://127.0.0.1:{port}/0") as client,
        ):
            await summary(engine)
            await settled(engine.cache)
            await client.delete(*await client.keys("*:call:*"))  # as if it had not heard of call-1
            if way == "forget":
                await engine.cache.forget("acme", ["call-1"])
            else:
                await engine.cache.drop("acme", "call-1")
            assert await client.keys("trunkline:ai:*:*") == []
    finally:
        process.terminate()
        process.wait()


async def test_what_is_being_written_when_its_call_is_dropped_goes_too(redis):
    async with cached(redis=redis[0]) as engine, Redis.from_url(redis[0]) as client:
        await summary(engine)
        await engine.cache.drop("acme", "call-1")
        await settled(engine.cache)
        assert await client.keys("trunkline:ai:*:*") == []


async def test_a_replica_that_did_not_hear_of_an_erasure_puts_nothing_back(redis):
    async with (
        cached(redis=redis[0]) as one,
        cached(redis=redis[0]) as other,
        Redis.from_url(redis[0]) as client,
    ):
        await one.cache.forget("acme", ["call-1"])
        await summary(other)
        await settled(other.cache)
        assert await client.keys("*:answer:*") == []


async def test_without_redis_every_question_is_answered_and_its_return_is_seen(tmp_path):
    port, clock = free_port(), Clock()
    failed = counted("trunkline_ai_cache_redis_failures_total")
    async with cached(redis=f"redis://127.0.0.1:{port}/0", memory_bytes=0, clock=clock) as engine:
        answers = await asyncio.gather(*(summary(engine, f"words {n}") for n in range(50)))
        assert len(set(answers)) == 50
        await settled(engine.cache)
        assert 3 <= counted("trunkline_ai_cache_redis_failures_total") - failed <= 100
        assert await summary(engine, "words 0") == "answer 51", "nothing is kept"
        await engine.cache.forget("acme", ["call-1"])
        process = started(port, tmp_path)
        try:
            async with asyncio.timeout(20):
                while True:  # the breaker tries again by itself
                    await summary(engine, "words", call="call-2")
                    await settled(engine.cache)
                    asked = engine.engine.asked
                    await summary(engine, "words", call="call-2")
                    if engine.engine.asked == asked:
                        break
                    await asyncio.sleep(0.2)
            await engine.cache.sweep()
            async with Redis.from_url(f"redis://127.0.0.1:{port}/0") as client:
                assert await client.zrange("trunkline:ai:erased", 0, -1) == [b"acme/call-1"], "what was owed"
        finally:
            process.terminate()
            process.wait()


async def test_a_redis_that_hangs_delays_no_more_than_a_moment():
    async def hang(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with cached(redis=f"redis://127.0.0.1:{port}/0") as engine:
        async with asyncio.timeout(10):
            for number in range(20):
                await summary(engine, f"words {number}")
        await settled(engine.cache)
    server.close()


async def test_a_deleted_analysis_takes_the_models_answer_with_it(redis, tmp_path):
    config = AiConfig(
        grpc_address="127.0.0.1:0", metrics_address="", store_url=f"sqlite:///{tmp_path}/ai.db", keys=KEY_FOLDER,
        drain_seconds=0.1, drain_notice_seconds=0.0, engines=("tests.standins.completing_ai:create",),
        cache=CacheSettings(redis=redis[0]),
    )  # fmt: skip
    metadata = (("authorization", f"Bearer {TokenSigner(KEY_FOLDER, 'gateway').service_token()}"),)

    async def analysed(stub, call):
        request = analysis_service_pb2.AnalyzeCallRequest(
            parent="tenants/acme", call=f"tenants/acme/calls/{call}", text="my basement floods"
        )
        return await stub.AnalyzeCall(request, metadata=metadata)

    async with build(config) as parts, parts.running() as serving, Redis.from_url(redis[0]) as client:
        await serving.health.wait_serving()
        async with grpc.aio.insecure_channel(serving.address) as channel:
            stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
            made = [await analysed(stub, call) for call in ("call-1", "call-2", "call-3")]
            assert [one.usage.cached for one in made] == [False, True, True]
            await settled(parts.cache)
            assert await client.keys("*:answer:*") != []
            for one in made[1:]:
                await stub.DeleteAnalysis(
                    analysis_service_pb2.DeleteAnalysisRequest(name=one.name), metadata=metadata
                )
            assert await client.keys("*:answer:*") == []
            again = [await analysed(stub, call) for call in ("call-2", "call-3")]
            assert [one.usage.cached for one in again] == [False, True]


# Robocalls


def misheard(at, word="lasting"):
    words = ROBOCALL.split()
    words[at] = word
    return " ".join(words)


async def test_a_robocall_that_is_nearly_an_earlier_one_gets_its_answer():
    model = Model(intent="robocall", spam_score=0.9)
    async with cached(model, similar=True) as engine:
        await engine.complete(prompt(ROBOCALL), SCHEMA)
        alike = await engine.complete(prompt(misheard(1)), SCHEMA)
        assert alike.usage.cached
        assert 0.9 <= alike.usage.reused_similarity < 1
        assert usage_message(alike.usage).reused_similarity == pytest.approx(alike.usage.reused_similarity)
        assert (await engine.complete(prompt(ROBOCALL.upper() + "."), SCHEMA)).usage.reused_similarity == 1
        assert model.asked == 1


@pytest.mark.parametrize(
    ("first", "then", "answer"),
    [
        ({"words": ROBOCALL}, {"words": misheard(1)}, {"intent": "quote_request"}),
        ({"words": ROBOCALL}, {"words": misheard(1)}, {"intent": "robocall", "spam_score": 0.4}),
        ({"words": ROBOCALL}, {"words": misheard(1), "tenant": "globex"}, {}),
        ({"words": ROBOCALL}, {"words": misheard(1), "voicemail": True}, {}),
        ({"words": ROBOCALL}, {"words": misheard(1), "generation": 1}, {}),
        ({"words": ROBOCALL}, {"words": misheard(1, "555")}, {}),
        ({"words": ROBOCALL + " call 555 0100"}, {"words": ROBOCALL + " call 555 0199"}, {}),
        (
            {"words": ROBOCALL},
            {"words": ROBOCALL + " yes I need a plumber my basement floods please come"},
            {},
        ),
        ({"words": "press one"}, {"words": "Press one"}, {}),
    ],
)
async def test_what_is_no_robocall_or_not_alike_is_asked(first, then, answer):
    model = Model(**{"intent": "robocall", "spam_score": 0.9, **answer})
    async with cached(model, similar=True) as engine:
        await engine.complete(prompt(**first), SCHEMA)
        assert not (await engine.complete(prompt(**then), SCHEMA)).usage.cached


@pytest.mark.parametrize("calls", [None, ["call-1"]])
async def test_a_script_goes_with_its_call_and_its_tenant(calls):
    async with cached(Model(intent="robocall", spam_score=0.9), similar=True) as engine:
        await engine.complete(prompt(ROBOCALL), SCHEMA)
        await engine.cache.forget("acme", calls)
        assert not (await engine.complete(prompt(misheard(1), call="call-2"), SCHEMA)).usage.cached


async def test_scripts_are_within_the_memory_too():
    def script(number):
        return f"{ROBOCALL} " + " ".join(f"{word}{number}x" for word in ROBOCALL.split())

    async with cached(Model(intent="robocall", spam_score=0.9), similar=True, memory_bytes=80_000) as engine:
        for number in range(100):
            await engine.complete(prompt(script(number)), SCHEMA)
            assert 0 < counted("trunkline_ai_cache_memory_bytes") <= 80_000
        assert 0 < engine.cache._scripts.size <= 10_000
        assert len(engine.cache._scripts) > 1


async def test_without_memory_no_script_is_kept_in_it(redis):
    async with cached(
        Model(intent="robocall", spam_score=0.9), similar=True, memory_bytes=0, redis=redis[0]
    ) as engine:
        await engine.complete(prompt(ROBOCALL), SCHEMA)
        assert not (await engine.complete(prompt(misheard(1)), SCHEMA)).usage.cached


async def test_a_script_ends_when_its_hours_are_over():
    clock = Clock()
    async with cached(Model(intent="robocall", spam_score=0.9), clock, similar=True) as engine:
        await engine.complete(prompt(ROBOCALL), SCHEMA)
        clock.now += 25 * 3600
        assert not (await engine.complete(prompt(misheard(1)), SCHEMA)).usage.cached
        await engine.cache.sweep()
        assert len(engine.cache._scripts) == 1


# The parts


@given(st.text(), st.text(), st.floats(0, 2e9), st.integers(0, 10**9))
def test_an_answer_is_read_as_it_was_packed(engine, text, made_at, cost):
    answer = Answer(engine, text, made_at, cost)
    assert Answer.unpacked(answer.packed()) == answer


@given(st.binary())
def test_other_bytes_are_no_answer(data):
    for begin in (b"", b"\x00", b"\x01"):
        with pytest.raises(BrokenAnswer):
            Answer.unpacked(begin + data)


def test_what_unpacks_to_more_than_an_answer_is_refused():
    bomb = zstandard.ZstdCompressor().compress(b" " * 100_000_000)
    assert len(bomb) < 10_000
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b'["a", "b", 1.0, 1]')
    for data in (bomb, unsized):
        with pytest.raises(BrokenAnswer):
            Answer.unpacked(b"\x01" + data)


@given(st.text())
def test_any_data_is_a_question(data):
    one = replace(prompt(), data=data)
    asked = (one, SCHEMA, "model/1", "s3cret")
    assert question_of(*asked) == question_of(*asked)


def test_without_the_secret_nobody_can_tell_what_was_asked():
    keys = {question_of(prompt(), SCHEMA, "model/1", secret).key for secret in ("", "s3cret", "another")}
    assert len(keys) == 3


class _OfATenant:
    """Gives prompts a tenant, which the checks leave out."""

    def __init__(self, engine):
        self._engine = engine
        self.name = engine.name

    async def complete(self, prompt, schema):
        return await self._engine.complete(replace(prompt, tenant_id="acme"), schema)


@pytest.mark.parametrize("name", MODEL_CHECKS)
async def test_a_cached_model_is_a_model(name):
    async with cached() as engine:
        await MODEL_CHECKS[name](_OfATenant(engine))


async def test_the_tasks_work_on_a_cached_model_and_show_its_usage():
    async with cached() as engine:
        conversation = replace(CALL, context=replace(CALL.context, tenant_id="acme"))
        first, again = [await ask(PromptedEngine(engine), conversation) for _ in range(2)]
    assert again == replace(first, usage=EngineUsage(cached=True))
