"""A draft of a message to the customer: a frame for a person to fill, never a promise that was not made."""

from collections.abc import Mapping

from trunkline_ai.engines.base import Context, Entity
from trunkline_ai.engines.findings import Outcome
from trunkline_ai.engines.labels import EntityType, Intent

_BY_OUTCOME: Mapping[Outcome, str] = {
    Outcome.BOOKED: "thank you for calling. We have noted your appointment{time}. Please tell us if anything changes.",
    Outcome.CALLBACK_PROMISED: "thank you for calling. As promised, we will get back to you{topic} shortly.",
}
_BY_INTENT: Mapping[Intent, str] = {
    Intent.EMERGENCY_SERVICE: "thank you for calling. Do you still need help{topic}? Please call us right away.",
    Intent.QUOTE_REQUEST: "thank you for asking us{topic}. When is a good time to talk about a price?",
    Intent.APPOINTMENT: "thank you for calling. Which day and time suit you best{topic}?",
    Intent.SUPPORT: "thank you for calling. Is there anything left that we can help with{topic}?",
    Intent.BILLING: "thank you for calling about your account. We are looking into it.",
    Intent.COMPLAINT: "thank you for telling us. We are sorry for the trouble, and would like to talk about it.",
    Intent.VOICEMAIL: "thank you for your message. When is a good time to call you back{topic}?",
}
_SETTLED = frozenset({Outcome.RESOLVED, Outcome.NONE})
_NOT_A_MATTER = frozenset({"pricing", "scheduling", "billing", "opening hours"})


def follow_up(
    intent: Intent, outcome: Outcome, topics: tuple[str, ...], entities: tuple[Entity, ...], context: Context
) -> str:
    """The draft; empty if there is nothing to follow up."""
    frame = _BY_OUTCOME.get(outcome) or _BY_INTENT.get(intent, "")
    if not frame or outcome in _SETTLED:
        return ""
    matter = next((topic for topic in topics if topic not in _NOT_A_MATTER), "")
    times = [one.text for one in entities if one.type is EntityType.TIME and one.value]
    said = frame.format(topic=f" about {matter}" if matter else "", time=f" ({times[-1]})" if times else "")
    if context.message:
        said = said.replace("for calling", "for writing")
    return f"Hello, {said}"
