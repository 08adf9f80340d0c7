"""An engine with a breaker: after failures in a row it is left alone for a while, and says so at once.

The breaker is next to the engine, so what others keep of its answers can be had while it is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from trunkline_runtime.engines.account import BUDGET_SPENT
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
from trunkline_ai.engines.remote import TIMEOUT
from trunkline_ai.engines.wrapped import E, Wrapped
from trunkline_ai.routing.breaker import TenantBreaker

LEFT_ALONE = "ENGINE_LEFT_ALONE"
T = TypeVar("T")


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
        self._breaker = TenantBreaker(name, patience.failures, patience.rest_seconds)

    async def _asked(self, tenant: str, ask: Callable[[], Awaitable[T]]) -> T:
        if rest := self._breaker.rest(tenant):
            told = f"{self._called} is not asked for a while after consecutive failures"
            raise EngineError(LEFT_ALONE, told, transient=True, retry_after=max(0.05, rest))
        try:
            async with asyncio.timeout(self._seconds):
                answer = await ask()
        except TimeoutError:
            self._breaker.failed(tenant)
            raise EngineError(TIMEOUT, f"{self._called} did not answer in time", transient=True) from None
        except EngineError as error:
            if error.transient:
                self._breaker.failed(tenant)
            elif error.reason != BUDGET_SPENT:  # for which the engine was not asked
                self._breaker.answered(tenant)
            raise
        self._breaker.answered(tenant)
        return answer


class GuardedModel(_Guarded[CompletingEngine]):
    """A model with a breaker."""

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """As the model. Raises EngineError: LEFT_ALONE while the breaker is open."""
        return await self._asked(prompt.tenant_id, lambda: self.engine.complete(prompt, schema))


class GuardedEngine(_Guarded[LanguageEngine]):
    """An engine of tasks with a breaker."""

    async def analyze(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """As the engine. Raises EngineError: LEFT_ALONE while the breaker is open."""
        return await self._asked(context.tenant_id, lambda: self.engine.analyze(transcript, context))
