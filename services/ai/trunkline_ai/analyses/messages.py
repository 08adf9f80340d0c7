"""An engine's result as the Analysis message."""

from __future__ import annotations

from trunkline.ai.v1 import analysis_pb2
from trunkline.common.v1 import labels_pb2
from trunkline_runtime.engines.base import EngineUsage
from trunkline_runtime.engines.messages import usage_message

from trunkline_ai.engines.base import AnalysisResult, Entity
from trunkline_ai.engines.labels import EntityType

_MOST_ENTITIES = 200
"""An hour of talk names more than anybody reads; the first ones are kept."""


def message_of(result: AnalysisResult) -> analysis_pb2.Analysis:
    """The message without name, call and time."""
    message = analysis_pb2.Analysis(
        spam=result.spam,
        spam_score=result.spam_score,
        sentiment=labels_pb2.Sentiment.Value(f"SENTIMENT_{result.sentiment.name}"),
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
    if result.usage != EngineUsage():
        message.usage.CopyFrom(usage_message(result.usage))
    return message


def _entity(entity: Entity) -> analysis_pb2.Entity:
    kind = EntityType(entity.type)
    return analysis_pb2.Entity(
        type=analysis_pb2.EntityType.Value(f"ENTITY_TYPE_{kind.name}"), text=entity.text, value=entity.value
    )
