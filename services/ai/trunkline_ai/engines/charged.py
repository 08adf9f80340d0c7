"""An engine whose answers are charged to their tenants, and which is not asked once a tenant's budget is spent.

It is next to the engine, so that what is paid for is charged whatever becomes of it, and what others keep of its
answers costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from trunkline_runtime.engines.account import Account

from trunkline_ai.engines.base import (
    AnalysisResult,
    CompletingEngine,
    Completion,
    Context,
    LanguageCapabilities,
    LanguageEngine,
    Prompt,
    Transcript,
)

E = TypeVar("E", bound=CompletingEngine | LanguageEngine)


class _Charged(Generic[E]):
    """What both kinds have in common: all of the engine's own, but for its answers."""

    def __init__(self, engine: E, account: Account) -> None:
        self._engine = engine
        self._account = account

    @property
    def name(self) -> str:
        """The engine's."""
        return self._engine.name

    @property
    def problem(self) -> str:
        """The engine's."""
        return self._engine.problem

    @property
    def capabilities(self) -> LanguageCapabilities:
        """The engine's."""
        return self._engine.capabilities

    async def __aenter__(self) -> Self:
        """Begin to warm the engine up."""
        await self._engine.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        """End the engine."""
        await self._engine.__aexit__(*raised)


class ChargedModel(_Charged[CompletingEngine]):
    """A model whose answers are charged."""

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """As the model. Raises EngineError: BUDGET_SPENT."""
        await self._account.check(prompt.tenant_id, self._engine)
        completion = await self._engine.complete(prompt, schema)
        await self._account.charge(prompt.tenant_id, completion.engine, completion.usage)
        return completion


class ChargedEngine(_Charged[LanguageEngine]):
    """An engine of tasks whose answers are charged."""

    async def analyze(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """As the engine. Raises EngineError: BUDGET_SPENT."""
        await self._account.check(context.tenant_id, self._engine)
        result = await self._engine.analyze(transcript, context)
        await self._account.charge(context.tenant_id, result.engine, result.usage)
        return result
