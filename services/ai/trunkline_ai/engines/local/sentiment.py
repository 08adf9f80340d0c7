"""How the customer felt: VADER with telephone valences over the customer's turns, and expressions it cannot see."""

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache

from trunkline_words.written import straightened

from trunkline_ai.engines.base import SpeakerRole, Transcript
from trunkline_ai.engines.labels import Intent, Sentiment
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.text import Spoken, sentences
from trunkline_ai.engines.local.valence import Valences

_RANGES: Mapping[Sentiment, tuple[float, float]] = {
    Sentiment.NEGATIVE: (-1.0, -0.33),
    Sentiment.NEUTRAL: (-0.32, 0.32),
    Sentiment.POSITIVE: (0.33, 1.0),
}
"""What each mood scores."""
_SENTENCES = 512
_WORDS_WEIGHT = 0.8
_FEELING_WEIGHT = 0.3
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
        valences = Valences(
            {word: float(one) for of in tables["valence"].values() for word, one in of.items()}
        )
        # Parts of a conversation are judged after the whole.
        self._compound = lru_cache(_SENTENCES)(valences.compound)

    def found(self, transcript: Transcript, conversation: Conversation) -> list[float]:
        """Points of joy, of anger and of distress, the most joyful and the angriest sentence, and their mean."""
        said = conversation.customer
        return [
            *(self._feelings.score(label, said) for label in ("positive", "negative", "distress")),
            *self._words(turn.text for turn in transcript.turns if turn.role is not SpeakerRole.AGENT),
        ]

    @staticmethod
    def judge(likely: Mapping[str, float], intent: Intent) -> SentimentVerdict:
        """The mood of the whole conversation, from how likely each is."""
        label = Sentiment(max(likely, key=lambda one: likely[one]))
        if intent in _UNFELT:
            return SentimentVerdict(Sentiment.NEUTRAL, 0.0)
        if intent is Intent.COMPLAINT:
            label = Sentiment.NEGATIVE
        score = likely[Sentiment.POSITIVE] - likely[Sentiment.NEGATIVE]
        least, most = _RANGES[label]
        return SentimentVerdict(label, round(min(most, max(least, score)), 3))

    def felt(self, texts: Iterable[str], said: Spoken, lines: Set[int]) -> SentimentVerdict:
        """The mood of a part of a conversation, by the rules alone: the model knows whole conversations only.

        `texts` are as they were written, `lines` the numbers of the same ones in `said`.
        """
        joy, anger = (self._feelings.score(label, said, lines) for label in ("positive", "negative"))
        best, worst, _mean = self._words(texts)
        score = round(math.tanh(_WORDS_WEIGHT * (best + worst) + _FEELING_WEIGHT * (joy - anger)), 3)
        label = next(label for label, (least, most) in _RANGES.items() if least <= round(score, 2) <= most)
        return SentimentVerdict(label, score)

    def _words(self, texts: Iterable[str]) -> tuple[float, float, float]:
        compounds = [self._compound(sentence) for text in texts for sentence in sentences(straightened(text))]
        if not compounds:
            return 0.0, 0.0, 0.0
        return max(0.0, *compounds), min(0.0, *compounds), sum(compounds) / len(compounds)
