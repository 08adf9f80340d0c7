"""A small naive Bayes model over the phrase bank: a lean for wordings that no cue names."""

import math
from collections import Counter
from itertools import pairwise

from trunkline_ai.engines.labels import Intent
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.text import canonical

_SMOOTHING = 0.25
_PAIR_WEIGHT = 0.6
_MOST_WORDS = 120
"""Words of a call that the model reads: what a caller wants is said early."""


class PhraseModel:
    """Multinomial naive Bayes on words and word pairs; every intent is as likely before a word is said.

    Learns at construction (about 30 ms) from data that people can read and add to, so there is no file of weights that
    could fall behind its source.
    """

    def __init__(self) -> None:
        bank = cues.load("phrases.toml")["phrases"]
        counts = {
            Intent(name): Counter(
                feature for line in str(lines).splitlines() for feature in _features(canonical(line).split())
            )
            for name, lines in bank.items()
        }
        vocabulary = {feature for counter in counts.values() for feature in counter}
        self._logs: dict[str, dict[Intent, float]] = {feature: {} for feature in vocabulary}
        for intent, counter in counts.items():
            total = sum(counter.values()) + _SMOOTHING * len(vocabulary)
            for feature in vocabulary:
                self._logs[feature][intent] = math.log((counter[feature] + _SMOOTHING) / total)
        self._intents = tuple(counts)

    def lean(self, text: str) -> dict[Intent, float]:
        """Each intent's probability, 0 to 1, tempered by length; empty when no word is known."""
        known = [
            (feature, 1.0 if " " not in feature else _PAIR_WEIGHT)
            for feature in dict.fromkeys(_features(text.split()[:_MOST_WORDS]))
            if feature in self._logs
        ]
        if not known:
            return {}
        temper = 1.0 / math.sqrt(max(1.0, len(known) / 8))  # words of a call are not independent
        sums = {
            intent: temper * sum(weight * self._logs[feature][intent] for feature, weight in known)
            for intent in self._intents
        }
        highest = max(sums.values())
        weights = {intent: math.exp(value - highest) for intent, value in sums.items()}
        total = sum(weights.values())
        return {intent: weight / total for intent, weight in weights.items()}


def _features(words: list[str]) -> list[str]:
    return words + [f"{first} {second}" for first, second in pairwise(words)]
