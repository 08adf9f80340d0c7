"""An engine with a breaker: after failures in a row it is left alone for a while, and says so at once.

The breaker is next to the engine, so what others keep of its answers can be had while it is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from trunkline_runtime.breakers import Breakers, CircuitOpen
from trunkline_runtime.engines.base import EngineError

from trunkline_ai.engines.base import (
    AnalysisResult,
    CompletingEngine,
    Completion,
    Context,
    LanguageEngine,
    Prompt,
    Transcript,
)
from trunkline_ai.engines.wrapped import E, Wrapped

LEFT_ALONE = "ENGINE_LEFT_ALONE"
TIMEOUT = "ENGINE_TIMEOUT"
T = TypeVar("T")


def is_outage(error: BaseException) -> bool:
    """Whether an engine itself cannot be had; a refusal for good says nothing of other conversations."""
    return isinstance(error, TimeoutError) or (isinstance(error, EngineError) and error.transient)


@dataclass(frozen=True)
class Patience:
    """When an engine is left alone, and for how long."""

    failures: int = 3
    rest_seconds: float = 30.0
    answer_seconds: float = 120.0
    """How long an answer may take of an engine that has no queue; one with a queue watches its own requests."""


class _Guarded(Wrapped[E]):
    """What both kinds have in common."""

    def __init__(self, name: str, engine: E, patience: Patience) -> None:
        """`name` is the engine's in the setting, and the breaker's in the metrics."""
        super().__init__(engine)
        self._called = name
        self._seconds = None if engine.capabilities.queues else patience.answer_seconds
        self._breakers = Breakers(patience.failures, patience.rest_seconds, (name,), outage=is_outage)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        async def timed() -> T:
            async with asyncio.timeout(self._seconds):
                return await ask()

        try:
            return await self._breakers.call(self._called, timed)
        except CircuitOpen as is_open:
            told = f"{self._called} is not asked for a while after consecutive failures"
            raise EngineError(LEFT_ALONE, told, transient=True, retry_after=is_open.retry_after) from None
        except TimeoutError:
            raise EngineError(TIMEOUT, f"{self._called} did not answer in time", transient=True) from None


class GuardedModel(_Guarded[CompletingEngine]):
    """A model with a breaker."""

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """As the model. Raises EngineError: LEFT_ALONE while the breaker is open."""
        return await self._asked(lambda: self.engine.complete(prompt, schema))


class GuardedEngine(_Guarded[LanguageEngine]):
    """An engine of tasks with a breaker."""

    async def analyze(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """As the engine. Raises EngineError: LEFT_ALONE while the breaker is open."""
        return await self._asked(lambda: self.engine.analyze(transcript, context))
