"""What the rules found in a conversation, as numbers for the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trunkline_ai.engines.base import Entity
from trunkline_ai.engines.labels import EntityType, Intent
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.signals import Signals


def found_by_rules(
    scores: Mapping[Intent, float],
    conversation: Conversation,
    signals: Signals,
    mood: Iterable[float],
    entities: Iterable[Entity],
) -> list[float]:
    """Scores of the intents, signals, feelings, and what kinds of entities were named, in a fixed order."""
    kinds = {entity.type for entity in entities}
    return [
        *(scores[intent] for intent in Intent),
        *signals.values(conversation),
        *mood,
        *(float(kind in kinds) for kind in EntityType),
    ]
