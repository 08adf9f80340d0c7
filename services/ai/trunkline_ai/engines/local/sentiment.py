"""How the customer felt: VADER with telephone valences over the customer's turns, and expressions it cannot see."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from trunkline_ai.engines.base import SpeakerRole, Transcript
from trunkline_ai.engines.labels import Intent, Sentiment
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.text import sentences, straightened

_NEGATIVE_FROM = -0.33
_POSITIVE_FROM = 0.38
_FEELING_WEIGHT = 0.30
_LEANING: Mapping[Intent, float] = {
    Intent.COMPLAINT: -0.55,
    Intent.EMERGENCY_SERVICE: -0.2,
}
"""What the intent itself says about the mood, before a word of feeling is spoken."""
_UNFELT = frozenset({
    Intent.SALES_PITCH, Intent.ROBOCALL, Intent.WRONG_NUMBER, Intent.NO_CONVERSATION,
})  # fmt: skip
"""Their cheer or apology is manners: always neutral."""


@dataclass(frozen=True)
class SentimentVerdict:
    """The label and its score, -1 to 1."""

    label: Sentiment
    score: float


class SentimentRules:
    """Judges the customer's turns only; an unknown speaker's count as the customer's."""

    def __init__(self) -> None:
        tables = cues.load("sentiment.toml")
        self._feelings = cues.CueTable.of(tables["feelings"], {})
        self._vader = SentimentIntensityAnalyzer()
        for valences in tables["valence"].values():
            self._vader.lexicon.update(valences)

    def judge(self, transcript: Transcript, conversation: Conversation, intent: Intent) -> SentimentVerdict:
        """The mood of the whole conversation."""
        if intent in _UNFELT:
            return SentimentVerdict(Sentiment.NEUTRAL, 0.0)
        said = conversation.customer
        feeling = self._feelings.score("positive", said) - self._feelings.score("negative", said)
        if intent is Intent.EMERGENCY_SERVICE:
            feeling -= self._feelings.score("distress", said)
        raw = 0.8 * self._words(transcript) + _FEELING_WEIGHT * feeling + _LEANING.get(intent, 0.0)
        score = round(math.tanh(raw), 3)
        if score <= _NEGATIVE_FROM:
            return SentimentVerdict(Sentiment.NEGATIVE, score)
        if score >= _POSITIVE_FROM:
            return SentimentVerdict(Sentiment.POSITIVE, score)
        return SentimentVerdict(Sentiment.NEUTRAL, score)

    def _words(self, transcript: Transcript) -> float:
        """The strongest joy plus the strongest anger of single sentences, each -1 to 1."""
        compounds = [
            float(self._vader.polarity_scores(sentence)["compound"])
            for turn in transcript.turns
            if turn.role is not SpeakerRole.AGENT
            for sentence in sentences(straightened(turn.text))
        ]
        if not compounds:
            return 0.0
        return max(0.0, *compounds) + min(0.0, *compounds)
