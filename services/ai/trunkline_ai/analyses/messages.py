"""An engine's result as the Analysis message."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from google.protobuf.duration_pb2 import Duration
from trunkline.ai.v1 import analysis_pb2
from trunkline.common.v1 import labels_pb2
from trunkline_runtime.engines.account import usage_message
from trunkline_runtime.engines.base import EngineUsage

from trunkline_ai.engines.base import AnalysisResult, Entity
from trunkline_ai.engines.findings import Findings, Mark, Mention, MoodPart, Quote, Scorecard, Side
from trunkline_ai.engines.labels import EntityType, Sentiment

_MOST_ENTITIES = 200
"""An hour of talk names more than anybody reads; the first ones are kept."""


def message_of(result: AnalysisResult, mentions: Iterable[Mention] = ()) -> analysis_pb2.Analysis:
    """The message without name, call and time; `mentions` are the tenant's keywords that were said."""
    message = analysis_pb2.Analysis(
        spam=result.spam,
        spam_score=result.spam_score,
        sentiment=_sentiment(result.sentiment),
        sentiment_score=result.sentiment_score,
        intent=labels_pb2.Intent.Value(f"INTENT_{result.intent.name}"),
        intent_confidence=result.intent_confidence,
        topics=result.topics,
        entities=[_entity(entity) for entity in result.entities[:_MOST_ENTITIES]],
        urgency=result.urgency,
        lead_level=labels_pb2.LeadLevel.Value(f"LEAD_LEVEL_{result.lead_level.name}"),
        lead_score=result.lead_score,
        lead_reasons=result.lead_reasons,
        summary=result.summary,
        action_items=result.action_items,
        unreliable=bool(result.unreliable),
        unreliable_reason=result.unreliable,
        degraded=result.degraded,
        degraded_reason=result.degraded_reason,
        final=result.final,
        engine=result.engine,
    )
    _add(message, result.findings)
    message.keywords.extend(
        analysis_pb2.KeywordMention(
            keyword=one.keyword, phrase=one.phrase, side=_side(one.side), quote=_quote(one.quote)
        )
        for one in mentions
    )
    if result.usage != EngineUsage():
        message.usage.CopyFrom(usage_message(result.usage))
    return message


def _entity(entity: Entity) -> analysis_pb2.Entity:
    kind = EntityType(entity.type)
    return analysis_pb2.Entity(
        type=analysis_pb2.EntityType.Value(f"ENTITY_TYPE_{kind.name}"), text=entity.text, value=entity.value
    )


def _add(message: analysis_pb2.Analysis, found: Findings) -> None:
    outcome = "UNSPECIFIED" if found.outcome.name == "UNKNOWN" else found.outcome.name
    message.outcome = labels_pb2.CallOutcome.Value(f"CALL_OUTCOME_{outcome}")
    for reason in found.evidence:
        message.lead_evidence.add(text=reason.text, points=reason.points, quote=_quote(reason.quote))
    for mood in found.speaker_sentiments:
        message.speaker_sentiments.add(
            side=_side(mood.side), sentiment=_sentiment(mood.sentiment), score=mood.score
        )
    message.sentiment_parts.extend(map(_part, found.sentiment_parts))
    message.follow_up_draft = found.follow_up_draft
    message.scorecard.CopyFrom(_scorecard(found.scorecard))
    for flag in found.compliance:
        kind = analysis_pb2.ComplianceType.Value(f"COMPLIANCE_TYPE_{flag.type.name}")
        message.compliance_flags.add(type=kind, quote=_quote(flag.quote))
    for label in found.labels:
        message.labels.add(name=label.name, answer=_answer(label.verdict.name), quote=_quote(label.quote))
    for answer in found.answers:
        message.answers.add(
            question=answer.question,
            answer=_answer(answer.verdict.name),
            text=answer.text,
            quote=_quote(answer.quote),
        )


def _scorecard(card: Scorecard) -> analysis_pb2.AgentScorecard:
    return analysis_pb2.AgentScorecard(
        greeted=_item(card.greeted),
        gave_name=_item(card.gave_name),
        asked_name=_item(card.asked_name),
        time_offered=_item(card.time_offered),
    )


def _item(mark: Mark) -> analysis_pb2.ScorecardItem:
    return analysis_pb2.ScorecardItem(answer=_answer(mark.verdict.name), quote=_quote(mark.quote))


def _part(part: MoodPart) -> analysis_pb2.SentimentPart:
    return analysis_pb2.SentimentPart(
        start_char=part.span.start,
        end_char=part.span.end,
        start_offset=_duration(part.span.start_seconds),
        end_offset=_duration(part.span.end_seconds),
        sentiment=_sentiment(part.sentiment) if part.sentiment else labels_pb2.SENTIMENT_UNSPECIFIED,
        score=part.score,
    )


def _quote(quote: Quote | None) -> analysis_pb2.Quote | None:
    if quote is None:
        return None
    return analysis_pb2.Quote(
        text=quote.text,
        start_char=quote.start,
        end_char=quote.end,
        start_offset=_duration(quote.start_seconds),
        end_offset=_duration(quote.end_seconds),
    )


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1_000))
    return duration


@cache
def _side(side: Side) -> analysis_pb2.Side.ValueType:
    return (
        analysis_pb2.SIDE_UNSPECIFIED
        if side is Side.UNKNOWN
        else analysis_pb2.Side.Value(f"SIDE_{side.name}")
    )


@cache
def _sentiment(sentiment: Sentiment) -> labels_pb2.Sentiment.ValueType:
    return labels_pb2.Sentiment.Value(f"SENTIMENT_{sentiment.name}")


@cache
def _answer(name: str) -> analysis_pb2.Answer.ValueType:
    return analysis_pb2.Answer.Value(f"ANSWER_{name}")
