"""What the business should do next: from the intent, what was named, and what the business promised."""

import re
from collections.abc import Mapping

from trunkline_words.patterns import WordPatterns
from trunkline_words.written import Written, straightened

from trunkline_ai.engines.base import Entity, SpeakerRole, Transcript
from trunkline_ai.engines.labels import EntityType, Intent
from trunkline_ai.engines.local.text import sentences, shown

LISTEN = "Have a person listen to the recording"
"""For a conversation that was not understood."""
_MOST_PROMISES = 2
_PROMISE = re.compile(
    r"\b(?:i'?ll|i will|we'?ll|we will|i can have|i'?m going to|let me have|i'?ve just sent)\s++"
    r"(?!be happy|do\b|see you|help)"
    r"(?:\w++\s++){0,2}?"
    r"(?:send|call|have|email|mail|check|look|process|refund|close|take|get|ask|let|put|book|schedule|text|fix)\b",
    re.IGNORECASE,
)
_PROMISES = WordPatterns(_PROMISE)
_NEXT: Mapping[Intent, str] = {
    Intent.EMERGENCY_SERVICE: "Send help now{to_address}",
    Intent.QUOTE_REQUEST: "Send an estimate{about}",
    Intent.APPOINTMENT: "Put the appointment in the calendar{at_time}",
    Intent.SUPPORT: "Open a support case{about}",
    Intent.BILLING: "Check the account and the charge{of_amount}",
    Intent.COMPLAINT: "Have a manager call the customer",
    Intent.CANCEL: "Confirm the cancellation",
    Intent.EMPLOYMENT: "Pass the applicant on to whoever hires",
    Intent.VOICEMAIL: "Listen to the message",
}
_NOT_A_MATTER = frozenset({"pricing", "scheduling", "billing", "opening hours"})
_CALL_BACK = frozenset({
    Intent.EMERGENCY_SERVICE, Intent.QUOTE_REQUEST, Intent.APPOINTMENT, Intent.COMPLAINT, Intent.VOICEMAIL,
    Intent.SUPPORT, Intent.BILLING,
})  # fmt: skip


def action_items(
    transcript: Transcript, intent: Intent, topics: tuple[str, ...], entities: tuple[Entity, ...]
) -> tuple[str, ...]:
    """A few short lines; none for spam, wrong numbers and silence."""
    items: list[str] = []
    if intent in _NEXT:
        address, amount = _first(entities, EntityType.ADDRESS), _first(entities, EntityType.AMOUNT)
        when = next((one.text for one in reversed(entities) if one.type is EntityType.TIME and one.value), "")
        matters = [topic for topic in topics if topic not in _NOT_A_MATTER]
        items.append(
            _NEXT[intent].format(
                to_address=f" to {address}" if address else "",
                about=f": {matters[0]}" if matters else "",
                at_time=f": {when}" if when else "",
                of_amount=f": {amount}" if amount else "",
            )
        )
    number = _first(entities, EntityType.PHONE_NUMBER)
    if intent in _CALL_BACK and (number or intent is Intent.VOICEMAIL):
        person = _first(entities, EntityType.PERSON) or "the customer"
        items.append(f"Call {person} back" + (f" on {number}" if number else ""))
    if intent in _NEXT:
        promised = [
            sentence
            for turn in transcript.turns
            if turn.role is SpeakerRole.AGENT
            for sentence in sentences(turn.text)
            if _PROMISES.are_in(Written(straightened(sentence)))
        ]
        items += [
            f"Promised: {shown(sentence)}"
            for sentence in promised[:_MOST_PROMISES]
            if intent is not Intent.VOICEMAIL
        ]
    return tuple(items)


def _first(entities: tuple[Entity, ...], kind: EntityType) -> str:
    return next((entity.text for entity in entities if entity.type is kind), "")
