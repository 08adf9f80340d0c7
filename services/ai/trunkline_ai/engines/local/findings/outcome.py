"""How a call ended: from what the two sides agreed, promised, or declined, the later of them first."""

from trunkline_ai.engines.base import Context
from trunkline_ai.engines.findings import Outcome, Side
from trunkline_ai.engines.labels import Intent
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.findings.speech import Sentence, SpokenSentences, first

_NOTHING = frozenset({
    Intent.SALES_PITCH, Intent.ROBOCALL, Intent.WRONG_NUMBER, Intent.NO_CONVERSATION,
})  # fmt: skip
_BUSINESS = frozenset({Intent.EMERGENCY_SERVICE, Intent.QUOTE_REQUEST, Intent.APPOINTMENT})
_VISITS = _BUSINESS | {Intent.SUPPORT, Intent.INFORMATION, Intent.COMPLAINT}
"""Intents that a booking may end."""
_LAST = 3
"""How many of a side's last sentences show how it ended."""


class OutcomeRules:
    """Reads a call's end."""

    def __init__(self, table: cues.CueTable) -> None:
        self._cues = table

    def judge(self, speech: SpokenSentences, context: Context, intent: Intent, *, agreed: bool) -> Outcome:
        """The outcome; `agreed` is whether a time or a visit was offered and accepted."""
        if intent in _NOTHING:
            return Outcome.NONE
        if context.message:
            return Outcome.UNKNOWN
        if intent is Intent.VOICEMAIL or not speech.by(Side.AGENT):
            return Outcome.UNRESOLVED
        if intent in _VISITS and (agreed or self._says(speech, speech.by(Side.AGENT), "books")):
            return Outcome.LOST if self._given_up(speech) else Outcome.BOOKED
        if self._says(speech, speech.by(Side.AGENT), "calls_back"):
            return Outcome.CALLBACK_PROMISED
        if intent in _BUSINESS or intent is Intent.INFORMATION:
            if self._says(speech, speech.by(Side.CUSTOMER), "declines") or self._says(
                speech, speech.by(Side.AGENT), "refuses"
            ):
                return Outcome.LOST
            if intent in _BUSINESS:
                return Outcome.UNRESOLVED
        return Outcome.RESOLVED if self._settled(speech, intent) else Outcome.UNRESOLVED

    def _settled(self, speech: SpokenSentences, intent: Intent) -> bool:
        """The business said that it is done, or the customer is content at the end."""
        customer = speech.by(Side.CUSTOMER)
        if self._says(speech, customer[-_LAST:], "open"):
            return False
        done = self._says(speech, speech.by(Side.AGENT), "done")
        content = self._says(speech, customer[-_LAST:], "settles")
        return done if intent is Intent.COMPLAINT else done or content

    def _given_up(self, speech: SpokenSentences) -> bool:
        """The customer's last words decline."""
        return self._says(speech, speech.by(Side.CUSTOMER)[-2:], "declines")

    def _says(self, speech: SpokenSentences, sentences: tuple[Sentence, ...], label: str) -> bool:
        return first(speech, sentences, self._cues, label) is not None
