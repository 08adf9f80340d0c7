"""The task of analysing a call, as a prompt: what a model is asked, the schema of its answer, and its result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2
from trunkline_words.personal.policy import remote_kinds

from trunkline_ai.engines.base import AnalysisResult, Completion, Context, Entity, Prompt, Transcript
from trunkline_ai.engines.findings import Compliance, Outcome, Verdict
from trunkline_ai.engines.labels import EntityType, Intent, LeadLevel, Sentiment
from trunkline_ai.engines.prompts.checks import Check
from trunkline_ai.engines.prompts.fence import fenced
from trunkline_ai.engines.prompts.findings import findings_of
from trunkline_ai.engines.prompts.schemas import TEXT, array, integer, number, one_of, record
from trunkline_ai.engines.quotes import Script

NAME = "analyse_call.v2"
_VERDICT = one_of(Verdict.YES, Verdict.NO, Verdict.UNKNOWN)
_MARK = record(answer=_VERDICT, quote=TEXT)
SCHEMA: Mapping[str, Any] = record(
    intent=one_of(*Intent),
    intent_confidence=number(0, 1),
    spam_score=number(0, 1),
    sentiment=one_of(*Sentiment),
    sentiment_score=number(-1, 1),
    agent_sentiment=one_of(*Sentiment, "unknown"),
    sentiment_thirds=record(first=number(-1, 1), middle=number(-1, 1), last=number(-1, 1)),
    urgency=integer(0, 3),
    lead_level=one_of(*LeadLevel),
    lead_score=integer(0, 100),
    lead_reasons=array(record(text=TEXT, points=integer(-100, 100), quote=TEXT)),
    outcome=one_of(*Outcome),
    scorecard=record(greeted=_MARK, gave_name=_MARK, asked_name=_MARK, time_offered=_MARK),
    compliance=array(record(type=one_of(Compliance.RECORDING_CONSENT, Compliance.OPT_OUT), quote=TEXT)),
    summary=TEXT,
    topics=array(TEXT),
    entities=array(record(type=one_of(*EntityType), text=TEXT, value=TEXT)),
    action_items=array(TEXT),
    follow_up_draft=TEXT,
)
"""Of a tenant without labels and questions of its own."""
_INSTRUCTIONS = (resources.files("trunkline_ai.engines.prompts") / f"{NAME}.txt").read_text(encoding="utf-8")
_LABELS = """
- labels: for each of these labels of the business's own, whether it applies, with a quote if it does; unknown if the
  conversation doesn't show it: {told}
"""
_QUESTIONS = """
- answers: for each of these questions of the business's own, the answer yes, no, or unknown, with a quote. Where the
  form is text, answer yes if the conversation answers it, and answer it in text with one sentence; else text is empty:
  {told}
"""
_MOST_ITEMS = 10
_MOST_TOPICS = 5
_MOST_ENTITIES = 200
_MOST_ENTITY = 300
"""Characters of one: nobody has a longer name or address, and a model may name a whole conversation."""


def schema_of(context: Context) -> Mapping[str, Any]:
    """The schema of an answer, with the tenant's own labels and questions."""
    settings = context.settings
    own: dict[str, Any] = {}
    if settings.labels:
        names = one_of(*(label.name for label in settings.labels))
        own["labels"] = array(record(name=names, answer=_VERDICT, quote=TEXT))
    if settings.questions:
        ids = one_of(*(question.id for question in settings.questions))
        own["answers"] = array(record(question=ids, answer=_VERDICT, text=TEXT, quote=TEXT))
    return record(**SCHEMA["properties"], **own) if own else SCHEMA


def prompt_of(transcript: Transcript, context: Context) -> Prompt:
    """Ask for a conversation's analysis. Its turns are JSON: whatever is said in one stays inside it.

    What the tenant asks for is part of the instructions, as JSON: the tenant is not a stranger.
    """
    told = {
        "kind": "message" if context.message else "voicemail" if context.voicemail else "call",
        "language": context.language,
        "turns": [{"speaker": turn.role.value, "text": turn.text} for turn in transcript.turns],
    }
    return Prompt(
        NAME,
        _INSTRUCTIONS + _own(context.settings),
        fenced(told),
        tenant_id=context.tenant_id,
        priority=context.priority,
        call_id=context.call_id,
        generation=context.generation,
        redacted=remote_kinds(context.settings),
    )


def _own(settings: settings_pb2.AnalysisSettings) -> str:
    """What the instructions say of a tenant's own labels and questions."""
    labels = [
        {"name": one.name, "description": one.description, "examples": list(one.examples)}
        for one in settings.labels
    ]
    questions = [
        {
            "question": one.id,
            "text": one.text,
            "form": "text" if one.form == settings_pb2.ANSWER_FORM_TEXT else "yes_no",
        }
        for one in settings.questions
    ]
    said = _LABELS.lstrip("\n").format(told=json.dumps(labels, ensure_ascii=False)) if labels else ""
    if questions:
        said += _QUESTIONS.lstrip("\n").format(told=json.dumps(questions, ensure_ascii=False))
    return said


def result_of(
    answer: Mapping[str, Any], completion: Completion, transcript: Transcript, context: Context
) -> AnalysisResult:
    """Read an answer that keeps to its schema, and keep of it what the conversation bears out."""
    script = Script(transcript)
    check = Check(script, context, _INSTRUCTIONS)
    intent = Intent(answer["intent"])
    spam = answer["spam_score"] >= 0.5
    reasons = check.reasons(answer["lead_reasons"])
    level, score = check.lead(
        intent, LeadLevel(answer["lead_level"]), answer["lead_score"], reasons, spam=spam
    )
    return AnalysisResult(
        intent=intent,
        intent_confidence=float(answer["intent_confidence"]),
        spam=spam,
        spam_score=float(answer["spam_score"]),
        sentiment=Sentiment(answer["sentiment"]),
        sentiment_score=float(answer["sentiment_score"]),
        urgency=answer["urgency"],
        lead_level=level,
        lead_score=score,
        lead_reasons=tuple(f"{reason.text}: {reason.points:+d}" for reason in reasons),
        summary=check.text(answer["summary"]),
        topics=check.items(answer["topics"], _MOST_TOPICS),
        entities=tuple(_entities(answer["entities"][:_MOST_ENTITIES], script.text, check)),
        action_items=() if spam else check.items(answer["action_items"], _MOST_ITEMS, acts=True),
        unreliable=context.unreliable,
        engine=completion.engine,
        usage=completion.usage,
        findings=findings_of(answer, reasons, script, context, check, spam=spam),
    )


def _entities(named: list[dict[str, str]], text: str, check: Check) -> Iterator[Entity]:
    """Give those that were really said: a model may name what nobody did."""
    for one in named:
        start = text.find(one["text"]) if 0 < len(one["text"]) <= _MOST_ENTITY else -1
        if start >= 0:
            end = start + len(one["text"])
            kind = EntityType(one["type"])
            yield Entity(kind, one["text"], check.value(kind, one["text"], one["value"]), start, end)
