"""A model whose answers are kept: the same question of the same tenant is paid for once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trunkline_runtime.engines.base import EngineUsage

from trunkline_ai.cache.keys import Question
from trunkline_ai.cache.tiers import AnswerCache
from trunkline_ai.engines.base import CompletingEngine, Completion, Finish, Prompt
from trunkline_ai.engines.prompts.schemas import problem_of
from trunkline_ai.engines.wrapped import Wrapped


class CachedEngine(Wrapped[CompletingEngine]):
    """Asks a model what the cache has no answer to. Askers of one question at a time share one answer.

    The last asker that is cancelled, since its call or its tenant is erased, takes back what the model was to be asked.

    An answer that is given again has `usage.cached`, and costs nothing. A prompt without a tenant is always asked.
    """

    def __init__(self, model: CompletingEngine, cache: AnswerCache) -> None:
        super().__init__(model)
        self._cache = cache

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """Answer a prompt. Raises EngineError."""
        if not self._cache.enabled or not prompt.tenant_id:
            return await self.engine.complete(prompt, schema)
        question = self._cache.question(prompt, schema, self.engine.name)
        completion = self._cache.remembered(question)
        if completion is None:
            if question.key in self._cache.flights:
                self._cache.joined()
            completion = await self._cache.flights.run(
                question.key, lambda: self._asked(question, prompt, schema), stops=True
            )
        self._cache.served(question)
        return self._cache.billed(question, completion)

    async def _asked(self, question: Question, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        found = await self._cache.found(question)
        if found is not None:
            return found
        completion = await self.engine.complete(prompt, schema)
        self._cache.bill(question, completion.usage)
        if _is_whole(completion, schema):
            self._cache.keep(question, completion)
        return replace(completion, usage=EngineUsage(cached=True))


def _is_whole(completion: Completion, schema: Mapping[str, Any]) -> bool:
    if completion.finish is not Finish.DONE:
        return False
    try:
        completion.text.encode()  # half a character has no bytes, also where the schema looks at nothing
        return not problem_of(json.loads(completion.text), schema)
    except (ValueError, RecursionError):
        return False
