"""The words that a lead's reasons rest on."""

import re
from collections.abc import Iterable, Mapping

from trunkline_ai.engines.base import Entity
from trunkline_ai.engines.findings import Quote, Reason, Side
from trunkline_ai.engines.labels import EntityType, Intent
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.findings.speech import Sentence, SpokenSentences, best, first

_POINTS = re.compile(r": ([+-]\d{1,3})$")
_NAMED: Mapping[str, EntityType] = {
    "gives an address": EntityType.ADDRESS,
    "gives a number": EntityType.PHONE_NUMBER,
    "gives a name": EntityType.PERSON,
}
_SIGNALS: Mapping[str, tuple[str, str]] = {
    "agrees to a time or a visit": ("lead", "accepts"),
    "is ready to book": ("lead", "commits"),
    "the message asks for work": ("lead", "wants_work"),
    "wants to think or compare": ("lead", "hedges"),
    "has an appointment already": ("lead", "change"),
    "asks for a price": ("lead", "asks_price"),
}
"""Reason -> the section and the label of signals.toml whose cue gave it."""
_HURRY = ("now", "soon")


class EvidenceRules:
    """Finds for each reason the sentence whose cue gave it."""

    def __init__(self) -> None:
        self._signals = {name: cues.table("signals.toml", name) for name in ("lead", "urgency")}
        self._intents = cues.table("intents.toml", "caller")

    def quoted(
        self, reasons: Iterable[str], speech: SpokenSentences, intent: Intent, entities: tuple[Entity, ...]
    ) -> tuple[Reason, ...]:
        """The reasons, `text: +points` each, with their quotes; one that no words show has none."""
        return tuple(self._reason(reason, speech, intent, entities) for reason in reasons)

    def _reason(
        self, reason: str, speech: SpokenSentences, intent: Intent, entities: tuple[Entity, ...]
    ) -> Reason:
        points = _POINTS.search(reason)
        text = reason[: points.start()] if points else reason
        return Reason(text, int(points[1]) if points else 0, self._quote(text, speech, intent, entities))

    def _quote(
        self, text: str, speech: SpokenSentences, intent: Intent, entities: tuple[Entity, ...]
    ) -> Quote | None:
        if text in _NAMED:
            script = speech.script
            # Anybody's counts; the customer's says more.
            named = min(
                (one for one in entities if one.type is _NAMED[text]),
                key=lambda one: script.side_at(one.start) is Side.AGENT,
                default=None,
            )
            return script.quote(named.start, named.end) if named else None
        customer = speech.by(Side.CUSTOMER)
        found: Sentence | None = None
        if text == "is in a hurry":
            hurried = (first(speech, customer, self._signals["urgency"], label) for label in _HURRY)
            found = next((one for one in hurried if one is not None), None)
        elif text in _SIGNALS:
            section, label = _SIGNALS[text]
            # A customer accepts after the offer, so late; the rest is told when it comes up.
            order = tuple(reversed(customer)) if label == "accepts" else customer
            found = first(speech, order, self._signals[section], label)
        if found is None and text not in _SIGNALS:
            found = best(speech, customer, self._intents, intent.value)
        return speech.quote(found) if found else None
