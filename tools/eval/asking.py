"""What an engine says of labelled transcripts. Engines are made as the ai service makes them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from trunkline_ai.config import load_config
from trunkline_ai.engines.base import AnalysisResult, Context, LanguageEngine
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_ai.names import SERVICE
from trunkline_ai.routing.loader import load_engines
from trunkline_runtime.config import env_name
from trunkline_runtime.engines.base import EngineError, EngineUsage
from trunkline_runtime.identity import keys

from tools.eval.data import Item

_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """What an engine said of one transcript; `labels` by field, as Item has them."""

    labels: dict[str, str]
    intent_confidence: float
    """0 to 1."""
    lead_score: int
    """0 to 100."""

    @classmethod
    def of(cls, result: AnalysisResult) -> Answer:
        """What is compared of a result."""
        labels = {
            "spam": str(int(result.spam)),
            "sentiment": result.sentiment.value,
            "intent": result.intent.value,
            "lead": result.lead_level.value,
        }
        return cls(labels, result.intent_confidence, result.lead_score)


@dataclass
class Answers:
    """An engine's answers, one an item, None where it gave none; and what became of the asking."""

    engine: str
    given: list[Answer | None]
    failures: Counter[str] = field(default_factory=Counter)
    """How many answers are missing, by the reason of the EngineError."""
    told: str = ""
    """What the last of those errors said."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    unpriced: int = 0

    def _count(self, usage: EngineUsage) -> None:
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cost_micros += usage.cost_micros
        self.unpriced += usage.unpriced

    async def ask(self, engine: LanguageEngine, item: Item) -> Answer | None:
        """Have one item analysed, and count what it took."""
        try:
            result = await engine.analyze(item.transcript, Context())
        except EngineError as error:
            self.failures[error.reason] += 1
            self.told = f"{error.reason}: {error}"
            if error.usage is not None:
                self._count(error.usage)
            return None
        self._count(result.usage)
        return Answer.of(result)


def answers(engine: LocalEngine, items: Sequence[Item]) -> list[Answer | None]:
    """What the local engine says of each item."""
    return [Answer.of(engine.analyze_now(item.transcript, Context())) for item in items]


def made(name: str) -> tuple[LanguageEngine, int]:
    """Make the engine that TRUNKLINE_AI_ENGINE would name so, by the other settings; and how many it is asked at once.

    Nothing is kept or charged: no tenant asks. Raises ConfigError.
    """
    prefix = env_name(SERVICE, "")
    given = {variable: value for variable, value in os.environ.items() if variable.startswith(prefix)}
    with TemporaryDirectory() as folder:  # the settings ask for keys and a store, which nobody here uses
        own = {
            "engine": name,
            "keys": str(keys.create(Path(folder))),
            "store_url": f"sqlite:///{folder}/ai.db",
        }
        config = load_config(given | {env_name(SERVICE, field): value for field, value in own.items()})
        return load_engines(config)[name], config.analyses_at_once


async def asked(engine: LanguageEngine, items: Sequence[Item], at_once: int) -> Answers:
    """Have an engine analyse each item. Raises EngineError if it isn't ready within a minute."""
    told = Answers(engine.name, [])
    places = asyncio.Semaphore(len(items) if engine.capabilities.queues else at_once)

    async def ask(item: Item) -> Answer | None:
        async with places:
            return await told.ask(engine, item)

    async with engine:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while engine.problem:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise EngineError("ENGINE_NOT_READY", engine.problem, transient=True) from None
        told.given = await asyncio.gather(*(ask(item) for item in items))
    return told
