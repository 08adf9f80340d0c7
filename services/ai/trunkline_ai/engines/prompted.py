"""The tasks for an engine that only completes prompts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.language_tags import is_among

from trunkline_ai.engines.base import (
    AnalysisResult,
    CompletingEngine,
    Completion,
    Context,
    Finish,
    Prompt,
    Transcript,
)
from trunkline_ai.engines.labels import CONTENT_BLOCKED, Intent, LeadLevel, Sentiment, Unreliable
from trunkline_ai.engines.prompts import analyse_call
from trunkline_ai.engines.prompts.schemas import problem_of, within
from trunkline_ai.engines.wrapped import Wrapped

_MOST_MALFORMED = 2
"""Answers of no use to one question after which it is asked again: each was paid for."""


class _Malformed(EngineError):
    """An answer that cannot be read. After some, the same question is given up for good."""

    def __init__(self, told: str) -> None:
        super().__init__("ANSWER_MALFORMED", told, transient=False)


class PromptedEngine(Wrapped[CompletingEngine]):
    """Asks a model with the prompts of this service, and holds its answers to their schemas.

    What needs no model is not paid for: a conversation in which nobody spoke, or in a language that the model does not
    analyse.
    """

    async def analyze(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """Analyse a conversation. Raises EngineError."""
        transcript = transcript.beginning(self.capabilities.most_characters)
        if not transcript.turns:
            return self._unasked(Intent.NO_CONVERSATION, "Nobody spoke.", context.unreliable)
        if not is_among(context.language, self.capabilities.languages):
            return self._unasked(
                Intent.OTHER,
                "The conversation's language was not analysed.",
                Unreliable.LANGUAGE_NOT_ANALYSED.value,
            )
        prompt = analyse_call.prompt_of(transcript, context)
        schema = analyse_call.schema_of(context)
        for _ in range(_MOST_MALFORMED):
            with contextlib.suppress(_Malformed):
                return await self._once(prompt, schema, transcript, context)
        return await self._once(prompt, schema, transcript, context)

    async def _once(
        self, prompt: Prompt, schema: Mapping[str, Any], transcript: Transcript, context: Context
    ) -> AnalysisResult:
        completion = await self.engine.complete(prompt, schema)
        answer = _answer(completion, schema)
        return analyse_call.result_of(answer, completion, transcript, context)

    def _unasked(self, intent: Intent, summary: str, unreliable: str) -> AnalysisResult:
        return AnalysisResult(
            intent=intent,
            intent_confidence=1.0 if intent is Intent.NO_CONVERSATION else 0.0,
            spam=False,
            spam_score=0.0,
            sentiment=Sentiment.NEUTRAL,
            sentiment_score=0.0,
            urgency=0,
            lead_level=LeadLevel.NONE,
            lead_score=0,
            lead_reasons=(),
            summary=summary,
            unreliable=unreliable,
            engine=self.name,
        )


def _answer(completion: Completion, schema: Any) -> dict[str, Any]:
    """Read a completion's JSON. Raises EngineError; what could not be read was paid for, and is counted."""
    try:
        return _read(completion, schema)
    except EngineError:
        completion.usage.count(completion.engine)
        raise


def _read(completion: Completion, schema: Any) -> dict[str, Any]:
    if completion.finish is Finish.BLOCKED:
        raise EngineError(CONTENT_BLOCKED, "the engine refuses this content", transient=False)
    if completion.finish is Finish.CUT:  # the same limit would cut the same answer again
        raise EngineError("ANSWER_CUT", "the answer was cut at the engine's limit of tokens", transient=False)
    try:
        value: dict[str, Any] = json.loads(completion.text)
    except (ValueError, RecursionError):
        raise _Malformed("the answer is not JSON") from None
    if problem := problem_of(value, schema):
        raise _Malformed(problem)
    held: dict[str, Any] = within(value, schema)
    return held
