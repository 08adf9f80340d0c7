"""The task of analysing a call, as a prompt: what a model is asked, the schema of its answer, and its result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from trunkline_ai.engines.base import AnalysisResult, Completion, Context, Entity, Prompt, Transcript
from trunkline_ai.engines.labels import EntityType, Intent, LeadLevel, Sentiment
from trunkline_ai.prompts.schemas import TEXT, array, integer, number, one_of, record

NAME = "analyse_call.v1"
SCHEMA: Mapping[str, Any] = record(
    intent=one_of(*Intent),
    intent_confidence=number(0, 1),
    spam_score=number(0, 1),
    sentiment=one_of(*Sentiment),
    sentiment_score=number(-1, 1),
    urgency=integer(0, 3),
    lead_level=one_of(*LeadLevel),
    lead_score=integer(0, 100),
    lead_reasons=array(TEXT),
    summary=TEXT,
    topics=array(TEXT),
    entities=array(record(type=one_of(*EntityType), text=TEXT, value=TEXT)),
    action_items=array(TEXT),
)
_INSTRUCTIONS = (resources.files("trunkline_ai.prompts") / f"{NAME}.txt").read_text(encoding="utf-8")


def prompt_of(transcript: Transcript, context: Context) -> Prompt:
    """Ask for a conversation's analysis. Its turns are JSON: whatever is said in one stays inside it."""
    told = {
        "kind": "message" if context.message else "voicemail" if context.voicemail else "call",
        "language": context.language,
        "turns": [{"speaker": turn.role.value, "text": turn.text} for turn in transcript.turns],
    }
    data = json.dumps(told, ensure_ascii=False)
    return Prompt(
        NAME,
        _INSTRUCTIONS,
        data,
        tenant_id=context.tenant_id,
        priority=context.priority,
        call_id=context.call_id,
        generation=context.generation,
    )


def result_of(
    answer: Mapping[str, Any], completion: Completion, transcript: Transcript, context: Context
) -> AnalysisResult:
    """Read an answer that keeps to SCHEMA."""
    return AnalysisResult(
        intent=Intent(answer["intent"]),
        intent_confidence=float(answer["intent_confidence"]),
        spam=answer["spam_score"] >= 0.5,
        spam_score=float(answer["spam_score"]),
        sentiment=Sentiment(answer["sentiment"]),
        sentiment_score=float(answer["sentiment_score"]),
        urgency=answer["urgency"],
        lead_level=LeadLevel(answer["lead_level"]),
        lead_score=answer["lead_score"],
        lead_reasons=tuple(answer["lead_reasons"]),
        summary=answer["summary"],
        topics=tuple(answer["topics"]),
        entities=tuple(_entities(answer["entities"], transcript.text)),
        action_items=tuple(answer["action_items"]),
        unreliable=context.unreliable,
        engine=completion.engine,
        usage=completion.usage,
    )


def _entities(named: list[dict[str, str]], text: str) -> Iterator[Entity]:
    """Give those that were really said: a model may name what nobody did."""
    for one in named:
        start = text.find(one["text"])
        if one["text"] and start >= 0:
            end = start + len(one["text"])
            yield Entity(EntityType(one["type"]), one["text"], one["value"], start, end)
