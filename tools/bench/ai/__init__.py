"""How long an analysis takes, what the cache of answers saves, and what happens when a provider fails.

The local engine and the cache are measured in this process, on transcripts of 1,000 words. A hit is measured with the
task around it: the prompt, its key, the answer's check, and the result; and once more with personal data replaced. What
a flaky provider and 10,000 requests do is measured through the ai service as a process, with a stand-in of an
OpenAI-compatible endpoint.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2, analysis_service_pb2_grpc
from trunkline_ai.cache.engine import CachedEngine
from trunkline_ai.cache.settings import CacheSettings
from trunkline_ai.cache.tiers import AnswerCache
from trunkline_ai.engines.base import Context, LanguageEngine, SpeakerRole, Transcript, Turn
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_ai.engines.prompted import PromptedEngine
from trunkline_ai.redaction.engine import RedactedEngine
from trunkline_cli.suite.processes import Suite
from trunkline_runtime.identity.tokens import TokenSigner

from tests import redises
from tools.bench import Target, report
from tools.bench.ai.mix import labelled, mix
from tools.bench.ai.provider import InstantModel, Provider
from tools.bench.calls import QUIET_LOGS, percentile
from tools.bench.start import memory_mb

FOLDER = Path("build/bench/ai")
WORDS = 1_000
TURNS = 200
AT_ONCE = 200
FAILING = 0.2
WARM, GROWING, ASKERS = 1_000, 10_000, 16
TARGETS = {
    "analyse_p95_ms": Target("<", 50),
    "cached_p95_ms": Target("<", 10),
    "redacted_p95_ms": Target("<", 50),
    "redis_p95_ms": Target("<", 15),
    "flaky_unanswered": Target("==", 0),
    "paid_twice": Target("==", 0),
    "growth_mb": Target("<", 20),
}


def main() -> None:
    """Measure, and report."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    figures = {**asyncio.run(in_process()), **asyncio.run(flaky()), **asyncio.run(growth())}
    report("ai", figures, TARGETS)


def transcripts(count: int) -> list[Transcript]:
    """Make transcripts of WORDS words each, of the labelled ones in another order each time."""
    lines = [line for one in labelled() for line in one.text.split("\n")]
    made = []
    for number in range(count):
        turns: list[Turn] = []
        words = 0
        for line in itertools.islice(itertools.cycle(lines), 37 * number, None):
            mark, _, text = line.partition(": ")
            turns.append(Turn(SpeakerRole.AGENT if mark == "A" else SpeakerRole.CUSTOMER, text))
            words += len(text.split())
            if words >= WORDS:
                break
        made.append(Transcript(tuple(turns)))
    return made


async def in_process() -> dict[str, float]:
    """Measure the local engine, hits of each tier, and the hit rate."""
    said = transcripts(20)
    context = Context(language="en", tenant_id="acme")
    figures: dict[str, float] = {}
    async with LocalEngine() as local:
        took = await timed(local, said, context)
        figures["analyse_p50_ms"], figures["analyse_p95_ms"] = percentile(took, 0.5), percentile(took, 0.95)
    async with cache() as kept:
        figures["cached_p95_ms"] = percentile(await timed(cached(kept), said, context), 0.95)
        redacted = PromptedEngine(RedactedEngine(CachedEngine(InstantModel(), kept)))
        figures["redacted_p95_ms"] = percentile(await timed(redacted, said, context), 0.95)
    if redises.SERVER is None:
        print("redis-server is not here: redis_p95_ms is not measured")
    else:
        with redises.redis_server(FOLDER) as (url, _):
            async with cache(redis=url, memory_bytes=0) as kept:
                figures["redis_p95_ms"] = percentile(await timed(cached(kept), said, context), 0.95)
    return {**figures, **await hit_rates()}


def cache(**more: object) -> AnswerCache:
    """Make a cache of its own settings."""
    return AnswerCache(dataclasses.replace(CacheSettings(), **more), lambda: "bench")  # type: ignore[arg-type]


def cached(kept: AnswerCache) -> PromptedEngine:
    """Make the tasks of a model that answers at once, with a cache."""
    return PromptedEngine(CachedEngine(InstantModel(), kept))


async def timed(engine: LanguageEngine, said: list[Transcript], context: Context) -> list[float]:
    """Analyse each transcript once, and then TURNS times; the milliseconds of the latter."""
    for one in said:
        await engine.analyze(one, context)
    await asyncio.sleep(0.2)  # what is written beside the answers
    took = []
    for number in range(TURNS):
        began = time.perf_counter()
        await engine.analyze(said[number % len(said)], context)
        took.append((time.perf_counter() - began) * 1_000)
    return took


async def hit_rates() -> dict[str, float]:
    """Measure how much of the mix needs no model, and what the local engine would have taken for that."""
    async with cache() as kept, LocalEngine() as local:
        engine = cached(kept)
        given: Counter[str] = Counter()
        local_ms, hit_ms = 0.0, 0.0
        conversations = mix()
        for one in conversations:
            began = time.perf_counter()
            usage = (await engine.analyze(one.transcript, one.context)).usage
            took = time.perf_counter() - began
            given["similar" if usage.reused_similarity else "same" if usage.cached else "asked"] += 1
            if usage.cached:
                hit_ms += took * 1_000
                began = time.perf_counter()
                await local.analyze(one.transcript, one.context)
                local_ms += (time.perf_counter() - began) * 1_000
    hits = given["similar"] + given["same"]
    return {
        "hit_rate": hits / len(conversations),
        "similar_rate": given["similar"] / len(conversations),
        "hit_mean_ms": hit_ms / hits,
        "hit_local_mean_ms": local_ms / hits,
    }


class Service:
    """The ai service as a process, asking a provider."""

    def __init__(self, provider: Provider, folder: Path) -> None:
        settings = {
            "TRUNKLINE_AI_ENGINE": "openai",
            "TRUNKLINE_AI_OPENAI_URL": provider.url,
            "TRUNKLINE_AI_OPENAI_MODEL": "standin",
            "TRUNKLINE_AI_OPENAI_INPUT_PRICE_MICROS": "400000",
        }
        self.suite = Suite(folder, free_ports=True, env={**QUIET_LOGS, **settings})
        self.process = self.suite.spawn("ai")
        self.suite.wait_ready("ai")
        self._signer = TokenSigner(self.suite.folder / "keys", "gateway")
        self._channel = grpc.aio.insecure_channel(self.suite.grpc["ai"])
        self._stub = analysis_service_pb2_grpc.AnalysisServiceStub(self._channel)

    async def analyse(self, call: str, text: str) -> analysis_pb2.Analysis:
        """Analyse a text as that of a call. Raises grpc.aio.AioRpcError."""
        request = analysis_service_pb2.AnalyzeCallRequest(
            parent="tenants/acme", call=f"tenants/acme/calls/{call}", text=text
        )
        # A run may last longer than a token.
        metadata = (("authorization", f"Bearer {self._signer.service_token()}"),)
        made: analysis_pb2.Analysis = await self._stub.AnalyzeCall(request, metadata=metadata, timeout=120)
        return made

    async def close(self) -> None:
        """Stop it."""
        await self._channel.close()
        self.suite.stop()


async def flaky() -> dict[str, float]:
    """Ask for AT_ONCE analyses at once: each conversation twice, as one call's or as two calls'."""
    async with Provider(failing=FAILING, seconds=0.05) as provider:
        service = Service(provider, FOLDER / "flaky")
        try:
            asked = [
                service.analyse(
                    f"call-{number}-{turn if number % 2 else 0}", f"I need plumber number {number}"
                )
                for number in range(AT_ONCE // 2)
                for turn in range(2)
            ]
            answers = await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await service.close()
    made = [one for one in answers if isinstance(one, analysis_pb2.Analysis)]
    return {
        "flaky_unanswered": len(answers) - len(made),
        "flaky_degraded": sum(one.degraded for one in made),
        "flaky_failed": provider.failed,
        "paid_twice": sum(count - 1 for count in provider.answered.values()),
    }


async def growth() -> dict[str, float]:
    """Measure what the service's memory grows by over GROWING requests, after WARM others."""
    async with Provider() as provider:
        service = Service(provider, FOLDER / "growth")
        try:
            await asked_by_some(service, range(WARM))
            before = memory_mb(service.process.pid)
            await asked_by_some(service, range(WARM, WARM + GROWING))
            return {"growth_mb": memory_mb(service.process.pid) - before, "idle_rss_mb": before}
        finally:
            await service.close()


async def asked_by_some(service: Service, numbers: range) -> None:
    """Ask for one analysis of each number, ASKERS at a time."""
    left = iter(numbers)
    name: Callable[[int], str] = "call-{}".format

    async def ask() -> None:
        for number in left:
            words = " ".join(f"word{number * n % 997}" for n in range(1, 60))
            await service.analyse(name(number), f"I need a plumber, case {number}: {words}")

    await asyncio.gather(*(ask() for _ in range(ASKERS)))


if __name__ == "__main__":
    main()
