"""The signals of urgency and of a customer's readiness to buy."""

from trunkline_ai.engines.base import SpeakerRole
from trunkline_ai.engines.labels import Intent
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.conversation import Conversation

_UNHURRIED = frozenset({
    Intent.SALES_PITCH, Intent.ROBOCALL, Intent.WRONG_NUMBER, Intent.NO_CONVERSATION, Intent.OTHER,
    Intent.EMPLOYMENT,
})  # fmt: skip
_READINESS = ("asks_price", "commits", "accepts", "offer", "hedges", "change", "wants_work")
_HURRY = ("now", "soon", "dated", "none")
_LONGEST_ACCEPTANCE = 24
"""Words: beyond this a customer's turn tells something, it does not accept an offer."""


class Signals:
    """Finds signals in a conversation; all are plain yes or no."""

    def __init__(self) -> None:
        self._urgency = cues.table("signals.toml", "urgency")
        self._lead = cues.table("signals.toml", "lead")

    def urgency(self, conversation: Conversation, intent: Intent) -> int:
        """How soon something must happen, 0 (no hurry) to 3 (now)."""
        if intent is Intent.EMERGENCY_SERVICE:
            return 3
        said = conversation.customer
        if intent in _UNHURRIED or self._urgency.score("none", said):
            return 0
        if self._urgency.score("now", said):
            return 3 if intent in {Intent.QUOTE_REQUEST, Intent.APPOINTMENT, Intent.VOICEMAIL} else 2
        if self._urgency.score("soon", said):
            return 2
        return 1 if self._urgency.score("dated", said) else 0

    def values(self, conversation: Conversation) -> list[float]:
        """Every signal as 0 or 1, in the order of the table: the customer's readiness and hurry, a time agreed."""
        said = conversation.customer
        lead = [float(self.says(signal, conversation)) for signal in _READINESS]
        hurry = [float(self._urgency.score(signal, said) > 0) for signal in _HURRY]
        return [*lead, *hurry, float(self.agrees_a_time(conversation))]

    def says(self, signal: str, conversation: Conversation) -> bool:
        """Whether the customer gives a signal of the lead table."""
        return self._lead.score(signal, conversation.customer) > 0

    def agrees_a_time(self, conversation: Conversation) -> bool:
        """The business offers a time or a visit and the customer's next, short turn accepts it."""
        offers, accepts, hedges = (
            self._lead.lines(label, conversation.everything) for label in ("offer", "accepts", "hedges")
        )
        offered = False
        for number, turn in enumerate(conversation.turns):
            if turn.role is SpeakerRole.AGENT:
                offered = offers.get(number, 0) > 0
            elif (
                (offered or turn.role is SpeakerRole.UNKNOWN)
                and accepts.get(number)
                and not hedges.get(number)
                and len(turn.text.split()) <= _LONGEST_ACCEPTANCE
            ):
                return True
        return False
