"""Which engine answers: by policy and complexity, past failures, and never a word further than the tenant allows."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from trunkline.common.v1 import analysis_settings_pb2
from trunkline_ai.engines.base import (
    Completion,
    Context,
    LanguageCapabilities,
    Prompt,
    SpeakerRole,
    Transcript,
    Turn,
)
from trunkline_ai.engines.labels import Intent
from trunkline_ai.engines.limits import RemoteLimits
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_ai.engines.remote import RemoteAsker, expected_tokens
from trunkline_ai.routing.breaker import TenantBreaker
from trunkline_ai.routing.complexity import complexity_of
from trunkline_ai.routing.guards import GuardedEngine, Patience
from trunkline_ai.routing.router import Router
from trunkline_runtime.engines.base import EngineError, EngineUsage

QUALITY, BALANCED, CHEAP, PRIVATE = range(1, 5)
EMERGENCY = "a pipe burst in my basement there is water everywhere please hurry"
LOCAL = LocalEngine()


def said(*texts, role=SpeakerRole.CUSTOMER):
    return Transcript(tuple(Turn(role, text) for text in texts))


def context(policy=0, **facts):
    return Context(settings=analysis_settings_pb2.AnalysisSettings(policy=policy), tenant_id="acme", **facts)


class Engine:
    """Answers under its name, or raises what it is told to."""

    problem = ""

    def __init__(self, name, *, error=None, **capabilities):
        self.name = f"{name}/1"
        self.capabilities = LanguageCapabilities(**capabilities)
        self.error = error
        self.asked = 0

    async def analyze(self, transcript, context):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return replace(LOCAL.analyze_now(transcript, context), engine=self.name)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass


def down(reason="DOWN"):
    return EngineError(reason, "down", transient=True)


def refusal(reason):
    return EngineError(reason, "no", transient=False)


class Set:
    """A dear engine, a cheap one inside the suite, and the local one."""

    def __init__(self, **more):
        self.dear = Engine("dear", price_micros=900)
        self.inside = Engine("inside", price_micros=10, inside=True)
        self.router = Router({"dear": self.dear, "inside": self.inside, "local": LOCAL}, **more)

    async def answer(self, transcript=None, policy=QUALITY, standing="", refused=None, **facts):
        return await self.router.answer(
            transcript or said(EMERGENCY), context(policy, **facts), standing=standing, refused=refused or {}
        )

    async def engine(self, transcript=None, policy=QUALITY, **facts):
        return (await self.answer(transcript, policy, **facts)).result.engine.partition("/")[0]


LONG = said(*["well you know it is about the thing that we spoke of and so on"] * 60)


async def test_quality_is_the_order_of_the_setting():
    assert await Set().engine() == "dear"
    local_first = Router({"local": LOCAL, "dear": Engine("dear")})
    assert (await local_first.answer(said(EMERGENCY), context())).result.engine == LOCAL.name


async def test_balanced_asks_nobody_about_what_is_simple_and_the_best_about_what_is_hard():
    engines = Set()
    assert await engines.engine(policy=BALANCED) == "local"
    assert engines.dear.asked == 0
    assert await engines.engine(LONG, BALANCED) == "dear"
    assert await engines.engine(said("¿Cuánto cuesta un baño nuevo?"), BALANCED, language="es") == "dear"
    assert (await engines.answer(policy=BALANCED)).result.degraded is False


async def test_cheap_is_the_cheapest_that_analyses_the_language():
    engines = Set()
    assert await engines.engine(LONG, CHEAP) == "local"
    spanish = said("¿Cuánto cuesta un baño nuevo?")
    assert await engines.engine(spanish, CHEAP, language="es-MX") == "inside"
    engines.inside.capabilities = LanguageCapabilities(languages=frozenset({"en", "fr"}))
    assert await engines.engine(spanish, CHEAP, language="es-MX") == "dear"


async def test_private_never_asks_an_engine_that_is_outside():
    engines = Set()
    assert await engines.engine(policy=PRIVATE) == "inside"
    engines.inside.error = down()
    answer = await engines.answer(policy=PRIVATE)
    assert (answer.result.engine, answer.result.degraded) == (LOCAL.name, True)
    assert await engines.engine(LONG, PRIVATE) == "local"
    assert engines.dear.asked == 0


async def test_the_services_policy_is_for_tenants_without_one():
    assert await Set(policy="private").engine(policy=0) == "inside"
    assert await Set(policy="private").engine(policy=QUALITY) == "dear"


async def test_the_next_one_answers_degraded_and_a_later_try_asks_only_better_ones():
    engines = Set()
    engines.dear.error = down()
    answer = await engines.answer()
    assert (answer.result.engine, answer.result.degraded, answer.final) == ("inside/1", True, False)
    again = await engines.answer(standing="inside/1")
    assert (again.result, again.final) == (None, False)
    assert engines.inside.asked == 1, "the answer that stands is not paid for again"
    engines.dear.error = None
    healed = await engines.answer(standing="inside/1")
    assert (healed.result.engine, healed.result.degraded) == ("dear/1", False)


async def test_an_engine_that_breaks_is_passed_over_and_not_asked_again():
    engines = Set()
    engines.dear.error = RecursionError("words of a caller")
    answer = await engines.answer()
    assert (answer.result.engine, answer.result.degraded_reason) == ("inside/1", "ENGINE_BROKEN")
    assert (answer.result.degraded, answer.final, answer.refused) == (True, True, {})
    alone = Router({"local": Engine("local", error=RecursionError())})
    with pytest.raises(RecursionError):
        await alone.answer(said(EMERGENCY), context())


async def test_a_better_one_of_two_takes_the_place_of_the_local_answer():
    engines = Set()
    engines.dear.error = engines.inside.error = down()
    assert (await engines.answer()).result.engine == LOCAL.name
    engines.inside.error = None
    better = (await engines.answer(standing=LOCAL.name)).result
    assert (better.engine, better.degraded, better.final) == ("inside/1", True, False)


async def test_a_content_that_is_refused_goes_to_no_other_provider_and_is_final():
    engines = Set()
    engines.dear.error = refusal("CONTENT_BLOCKED")
    answer = await engines.answer()
    assert (answer.result.engine, answer.result.degraded, answer.result.final) == (LOCAL.name, True, True)
    assert engines.inside.asked == 0
    assert await engines.answer(standing=LOCAL.name) == replace(answer, result=None)


async def test_what_is_too_long_for_one_engine_goes_to_the_next_and_is_final():
    engines = Set()
    engines.dear.error = refusal("CONVERSATION_TOO_LONG")
    answer = await engines.answer()
    assert (answer.result.engine, answer.result.degraded, answer.result.final) == ("inside/1", True, True)
    engines.inside.error = down()
    answer = await engines.answer()
    assert (answer.result.engine, answer.result.final) == (LOCAL.name, False), "inside may answer yet"


async def test_an_engine_that_refused_for_good_is_not_asked_again_for_a_better_answer():
    engines = Set()
    engines.dear.error, engines.inside.error = refusal("ANSWER_MALFORMED"), down()
    made = await engines.answer()
    assert (made.result.engine, made.final) == (LOCAL.name, False)
    again = await engines.answer(standing=LOCAL.name, refused=made.refused)
    assert (again.result, again.final, again.refused) == (None, False, made.refused)
    engines.inside.error = None
    better = await engines.answer(standing=LOCAL.name, refused=made.refused)
    assert (better.result.engine, better.result.degraded_reason) == ("inside/1", "ANSWER_MALFORMED")
    assert (better.final, engines.dear.asked, engines.inside.asked) == (True, 1, 3)


async def test_a_local_answer_is_no_longer_degraded_once_local_is_the_route():
    engines = Set()
    answer = await engines.answer(policy=BALANCED, standing=LOCAL.name)
    assert (answer.result.engine, answer.result.degraded) == (LOCAL.name, False)


class Slow(Engine):
    async def analyze(self, transcript, context):
        self.asked += 1
        await asyncio.Event().wait()


async def guarded(engine, times, **patience):
    made = GuardedEngine("any", engine, Patience(**patience))
    reasons = []
    for _ in range(times):
        try:
            await made.analyze(said(EMERGENCY), context())
            reasons.append("")
        except EngineError as error:
            reasons.append(error.reason)
    return made, reasons


async def test_an_engine_that_fails_is_left_alone_and_then_tried_again():
    engine = Engine("any", error=down())
    made, reasons = await guarded(engine, 4, failures=2, rest_seconds=1.0)
    assert reasons == ["DOWN", "DOWN", "ENGINE_LEFT_ALONE", "ENGINE_LEFT_ALONE"]
    assert engine.asked == 2
    engine.error = None
    async with asyncio.timeout(20):
        while await reasons_of(made, context().tenant_id) == ["ENGINE_LEFT_ALONE"]:
            await asyncio.sleep(0.05)
    assert (await made.analyze(said(EMERGENCY), context())).engine == "any/1"
    assert engine.asked == 4


async def reasons_of(made, *tenants):
    found = []
    for tenant in tenants:
        try:
            await made.analyze(said(EMERGENCY), replace(context(), tenant_id=tenant))
            found.append("")
        except EngineError as error:
            found.append(error.reason)
    return found


async def test_what_fails_for_one_tenant_alone_leaves_the_engine_to_the_others():
    class Choosy(Engine):
        async def analyze(self, transcript, context):
            self.error = down() if context.tenant_id == "evil" else None
            return await super().analyze(transcript, context)

    made = GuardedEngine("any", Choosy("any"), Patience(failures=3))
    assert await reasons_of(made, *["evil"] * 4) == ["DOWN"] * 3 + ["ENGINE_LEFT_ALONE"]
    assert await reasons_of(made, *["acme", "globex", "evil"]) == ["", "", "ENGINE_LEFT_ALONE"]


async def test_failures_of_two_tenants_leave_the_engine_alone_for_all():
    made = GuardedEngine("any", Engine("any", error=down()), Patience(failures=3))
    seen = await reasons_of(made, *["acme"] * 4, "globex", "initech")
    assert seen == ["DOWN"] * 3 + ["ENGINE_LEFT_ALONE", "DOWN", "ENGINE_LEFT_ALONE"]
    state = REGISTRY.get_sample_value("trunkline_breaker_state", {"service": "any"})
    assert state == 2


def test_once_the_rest_is_over_it_is_shown_half_open_also_while_nobody_asks():
    def shown() -> float | None:
        return REGISTRY.get_sample_value("trunkline_breaker_state", {"service": "rests"})

    clock = [1_000.0]
    breaker = TenantBreaker("rests", 1, 60.0, now=lambda: clock[0])
    assert shown() == 0
    breaker.failed("acme")
    breaker.failed("globex")
    assert shown() == 2
    clock[0] += 61.0
    assert shown() == 1
    breaker.answered("acme")
    assert shown() == 0


async def test_a_spent_budget_says_nothing_of_an_engine():
    engine = Engine("any", error=down())
    made = GuardedEngine("any", engine, Patience(failures=2))
    assert await reasons_of(made, "acme") == ["DOWN"]
    engine.error = EngineError("BUDGET_SPENT", "spent", transient=False)
    assert await reasons_of(made, "acme") == ["BUDGET_SPENT"]
    engine.error = down()
    assert await reasons_of(made, "acme", "acme") == ["DOWN", "ENGINE_LEFT_ALONE"]


async def test_refusals_of_content_leave_nobody_alone():
    _, reasons = await guarded(Engine("any", error=refusal("CONTENT_BLOCKED")), 5, failures=2)
    assert reasons == ["CONTENT_BLOCKED"] * 5


async def test_an_engine_that_hangs_is_not_waited_for_for_ever():
    _, reasons = await guarded(Slow("any"), 1, answer_seconds=0.01)
    assert reasons == ["ENGINE_TIMEOUT"]


def test_complexity_counts_length_turns_speakers_doubt_and_language():
    def judged(transcript, **facts):
        own = LOCAL.analyze_now(transcript, context(**facts))
        return complexity_of(transcript, context(**facts), own), own

    short, own = judged(said(EMERGENCY))
    assert short.score == pytest.approx(0.6 * (1 - own.intent_confidence) + 0.2 * 12 / 600 + 0.1 / 40)
    assert short.score < 0.35
    assert judged(LONG)[0].length == 0.2
    assert judged(LONG)[0].turns == 0.1
    assert judged(said(EMERGENCY, role=SpeakerRole.UNKNOWN))[0].speakers == 0.1
    assert judged(said("hola"), language="es")[0].score == 1
    assert judged(said(EMERGENCY), unreliable="low_confidence")[0].doubt == 0.6
    silence, own = judged(said())
    assert own.intent is Intent.NO_CONVERSATION
    assert silence.score < 0.35


def prompt(tenant="acme", priority=0, data="x" * 400):
    return Prompt("any.v1", "", data, tenant, priority)


class Counted:
    """An engine's one request: notes the order, and counts tokens."""

    def __init__(self, tokens=0):
        self.order = []
        self.tokens = tokens

    def of(self, name):
        async def once():
            self.order.append(name)
            return Completion("any/1", "{}", usage=EngineUsage(0.0, self.tokens, 0))

        return once


async def test_requests_beyond_a_tenants_limit_wait_and_fail_nobody():
    asker, counted = RemoteAsker("any", RemoteLimits(tenant_requests_per_minute=600)), Counted()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    names = ["acme", "acme", "acme", "globex"]
    await asyncio.gather(*(asker.ask(prompt(name), counted.of(name)) for name in names))
    assert counted.order == ["acme", "globex", "acme", "acme"]
    assert loop.time() - begun >= 0.19


async def test_realtime_goes_before_what_waits_longer():
    asker, counted = RemoteAsker("any", RemoteLimits(requests_per_minute=1_200)), Counted()
    asks = [asker.ask(prompt(priority=2), counted.of("background")) for _ in range(3)]
    asks.append(asker.ask(prompt(priority=0), counted.of("realtime")))
    await asyncio.gather(*asks)
    assert counted.order == ["background", "realtime", "background", "background"]


async def test_tokens_are_guessed_and_then_counted():
    guess = expected_tokens(prompt())
    limits = RemoteLimits(tokens_per_minute=guess * 600)
    dear, counted = RemoteAsker("any", limits), Counted(tokens=2 * guess)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for name in "ab":
        await dear.ask(prompt(), counted.of(name))
    assert loop.time() - begun >= 0.19, "twice the guess: twice the pause"


async def test_each_further_try_counts_against_the_limits():
    tries = []

    async def failing_once():
        tries.append(asyncio.get_running_loop().time())
        if len(tries) == 1:
            raise down()
        return Completion("any/1", "{}")

    async def at_once(_seconds):
        await asyncio.sleep(0)

    asker = RemoteAsker("any", RemoteLimits(requests_per_minute=600), sleep=at_once)
    await asker.ask(prompt(), failing_once)
    begun = asyncio.get_running_loop().time()
    await asker.ask(prompt(), Counted().of("next"))
    assert asyncio.get_running_loop().time() - begun >= 0.15
