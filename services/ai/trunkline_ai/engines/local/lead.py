"""Scoring how much business a conversation promises, with the reasons that made the score."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trunkline_ai.engines.base import Entity
from trunkline_ai.engines.labels import EntityType, Intent, LeadLevel
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.signals import Signals

_LEVELS = ((70, LeadLevel.HIGH), (40, LeadLevel.MEDIUM), (15, LeadLevel.LOW))
_BASE: Mapping[Intent, tuple[int, str]] = {
    Intent.EMERGENCY_SERVICE: (80, "needs help now"),
    Intent.QUOTE_REQUEST: (45, "asks for a price"),
    Intent.APPOINTMENT: (45, "wants an appointment"),
    Intent.INFORMATION: (20, "asks about the business"),
    Intent.VOICEMAIL: (20, "left a message"),
}
_CHANGE_OF_APPOINTMENT = (20, "has an appointment already")
_CAPS: Mapping[Intent, int] = {Intent.INFORMATION: 39, Intent.VOICEMAIL: 69}
_CHANGE_CAP = 39


@dataclass(frozen=True)
class LeadVerdict:
    """The level, the score (0 to 100) and `reason: +points` lines."""

    level: LeadLevel
    score: int
    reasons: tuple[str, ...]


class LeadRules:
    """Points by intent, then for readiness, specificity and urgency; hedging takes some away."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    def judge(
        self, conversation: Conversation, intent: Intent, urgency: int, entities: Iterable[Entity]
    ) -> LeadVerdict:
        """The lead's worth; intents that promise no business score 0."""
        if intent not in _BASE:
            return LeadVerdict(LeadLevel.NONE, 0, (f"{intent.value.replace('_', ' ')}: no new business",))
        changes = intent is Intent.APPOINTMENT and self._signals.says("change", conversation)
        points = [_CHANGE_OF_APPOINTMENT if changes else _BASE[intent]]
        if not changes:
            points += self._readiness(conversation, intent, urgency)
        points += _specificity(entities)
        cap = _CHANGE_CAP if changes else _CAPS.get(intent, 100)
        floor = _LEVELS[0][0] if intent is Intent.EMERGENCY_SERVICE else 0
        score = max(floor, min(cap, sum(value for value, _ in points)))
        level = next((level for least, level in _LEVELS if score >= least), LeadLevel.NONE)
        return LeadVerdict(level, score, tuple(f"{reason}: {value:+d}" for value, reason in points))

    def _readiness(self, conversation: Conversation, intent: Intent, urgency: int) -> list[tuple[int, str]]:
        points: list[tuple[int, str]] = []
        says = self._signals.says
        agreed = self._signals.agrees_a_time(conversation)
        if agreed:
            points.append((25, "agrees to a time or a visit"))
        if intent is not Intent.VOICEMAIL and says("commits", conversation):
            points.append((25 if not agreed else 10, "is ready to book"))
        if intent is Intent.VOICEMAIL and says("wants_work", conversation):
            points.append((25, "the message asks for work"))
        if urgency >= 2:
            points.append((10 if urgency == 3 else 5, "is in a hurry"))
        if not agreed and says("hedges", conversation):
            points.append((-5, "wants to think or compare"))
        return points


def _specificity(entities: Iterable[Entity]) -> list[tuple[int, str]]:
    kinds = {entity.type for entity in entities}
    points = []
    if EntityType.ADDRESS in kinds:
        points.append((15, "gives an address"))
    if EntityType.PHONE_NUMBER in kinds:
        points.append((3, "gives a number"))
    if EntityType.PERSON in kinds:
        points.append((2, "gives a name"))
    return points
