"""Scoring how much business a conversation promises, with the reasons that made the score."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trunkline_ai.engines.base import Entity
from trunkline_ai.engines.labels import EntityType, Intent, LeadLevel
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.signals import Signals

_RANGES = {LeadLevel.LOW: (15, 39), LeadLevel.MEDIUM: (40, 69), LeadLevel.HIGH: (70, 100)}
_BASE: Mapping[Intent, tuple[int, str]] = {
    Intent.EMERGENCY_SERVICE: (80, "needs help now"),
    Intent.QUOTE_REQUEST: (45, "asks for a price"),
    Intent.APPOINTMENT: (45, "wants an appointment"),
    Intent.INFORMATION: (20, "asks about the business"),
    Intent.VOICEMAIL: (20, "left a message"),
}
_CHANGE_OF_APPOINTMENT = (20, "has an appointment already")
_POSSIBLE: Mapping[Intent, tuple[LeadLevel, ...]] = {
    Intent.EMERGENCY_SERVICE: (LeadLevel.HIGH,),
    Intent.QUOTE_REQUEST: (LeadLevel.LOW, LeadLevel.MEDIUM, LeadLevel.HIGH),
    Intent.APPOINTMENT: (LeadLevel.LOW, LeadLevel.MEDIUM, LeadLevel.HIGH),
    Intent.INFORMATION: (LeadLevel.LOW,),
    Intent.VOICEMAIL: (LeadLevel.LOW, LeadLevel.MEDIUM),
}


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
        self,
        conversation: Conversation,
        intent: Intent,
        urgency: int,
        entities: Iterable[Entity],
        likely: Mapping[str, float],
    ) -> LeadVerdict:
        """The lead's worth; intents that promise no business score 0. `likely`: how likely each level is by the words.

        The words choose among the levels that the intent can have; points that miss the level are brought to its edge.
        """
        if intent not in _BASE:
            return LeadVerdict(LeadLevel.NONE, 0, (f"{intent.value.replace('_', ' ')}: no new business",))
        changes = intent is Intent.APPOINTMENT and self._signals.says("change", conversation)
        points = [_CHANGE_OF_APPOINTMENT if changes else _BASE[intent]]
        if not changes:
            points += self._readiness(conversation, intent, urgency)
        points += _specificity(entities)
        level = max(_POSSIBLE[intent], key=lambda one: likely[one])
        least, most = _RANGES[level]
        told = sum(value for value, _ in points)
        score = min(most, max(least, told))
        if score != told:
            points.append((score - told, f"in all it sounds like a {level.value} one"))
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
