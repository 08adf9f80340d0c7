"""An engine whose answers are charged to their tenants, and which is not asked once a tenant's budget is spent.

It is next to the engine, so that what is paid for is charged whatever becomes of it, and what others keep of its
answers costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trunkline_runtime.engines.account import Account

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


class _Charged(Wrapped[E]):
    """What both kinds have in common."""

    def __init__(self, engine: E, account: Account) -> None:
        super().__init__(engine)
        self._account = account


class ChargedModel(_Charged[CompletingEngine]):
    """A model whose answers are charged."""

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """As the model. Raises EngineError: BUDGET_SPENT, also where the budget is spent while the prompt waits."""

        async def may_ask() -> None:
            await self._account.check(prompt.tenant_id, self.engine)

        await may_ask()
        completion = await self.engine.complete(replace(prompt, may_ask=may_ask), schema)
        await self._account.charge(prompt.tenant_id, completion.engine, completion.usage)
        return completion


class ChargedEngine(_Charged[LanguageEngine]):
    """An engine of tasks whose answers are charged."""

    async def analyze(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """As the engine. Raises EngineError: BUDGET_SPENT."""
        await self._account.check(context.tenant_id, self.engine)
        result = await self.engine.analyze(transcript, context)
        await self._account.charge(context.tenant_id, result.engine, result.usage)
        return result
