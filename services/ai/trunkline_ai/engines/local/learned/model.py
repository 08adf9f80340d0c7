"""A small linear model over words, pairs of words and what the rules found; numpy runs it, `make train` makes it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trunkline_ai.engines.local.conversation import Conversation

WEIGHTS = resources.files("trunkline_ai.engines.local") / "data" / "weights.npz"
Floats = NDArray[np.float64]
_AGENT = "a:"
_AGENT_WEIGHT = 0.5
_MOST_SPREAD = 3.0


def words_of(conversation: Conversation) -> tuple[Counter[str], Counter[str]]:
    """Words and neighbouring pairs with how often they were said: the customer's, and the business's as `a:word`."""
    return _counted(conversation.customer, ""), _counted(conversation.agent, _AGENT)


def _counted(text: str, prefix: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in text.split("\n"):
        words = line.split()
        found.update(prefix + word for word in words)
        found.update(f"{prefix}{first} {second}" for first, second in pairwise(words))
    return found


class Model:
    """One row of scores a head: `intent`, `sentiment` and `lead`; each head's labels are in `labels`."""

    def __init__(
        self,
        vocabulary: Sequence[str],
        idf: Floats,
        mean: Floats,
        spread: Floats,
        heads: Mapping[str, tuple[Sequence[str], Floats, Floats]],
    ) -> None:
        """`heads`: labels, weights of words then of rules (features x labels), and biases with sharpness last."""
        self._index = {word: number for number, word in enumerate(vocabulary)}
        self._idf, self._mean, self._spread = idf, mean, spread
        self._heads = heads

    @classmethod
    def load(cls) -> Model:
        """The model that the package ships."""
        with resources.as_file(WEIGHTS) as path, np.load(path, allow_pickle=False) as kept:
            vocabulary = kept["vocabulary"].tobytes().decode().split("\n")
            heads = {
                name: (
                    kept[f"{name}_labels"].tobytes().decode().split("\n"),
                    kept[f"{name}_weights"].astype(np.float64),
                    kept[f"{name}_bias"].astype(np.float64),
                )
                for name in ("intent", "sentiment", "lead")
            }
            idf, mean, spread = (kept[name].astype(np.float64) for name in ("idf", "mean", "spread"))
        return cls(vocabulary, idf, mean, spread, heads)

    def probabilities(
        self, conversation: Conversation, found: Sequence[float]
    ) -> dict[str, dict[str, float]]:
        """By head, each label's probability, 0 to 1, summing to 1; `found` is what the rules found."""
        places, values = self.sparse(conversation)
        rules = self.standard(np.array(found))
        answer: dict[str, dict[str, float]] = {}
        for name, (labels, weights, bias) in self._heads.items():
            size = len(self._index)
            scores = bias[:-1] + values @ weights[places] + rules @ weights[size:]
            powers = np.exp(bias[-1] * (scores - scores.max()))
            answer[name] = dict(zip(labels, (powers / powers.sum()).tolist(), strict=True))
        return answer

    def sparse(self, conversation: Conversation) -> tuple[NDArray[np.int64], Floats]:
        """The places and weights of the words that the model knows; each speaker's weights have one length."""
        places: list[int] = []
        values: list[float] = []
        for counted, length in zip(words_of(conversation), (1.0, _AGENT_WEIGHT), strict=True):
            known = [(self._index[word], times) for word, times in counted.items() if word in self._index]
            weights = [(1.0 + math.log(times)) * self._idf[place] for place, times in known]
            norm = math.sqrt(sum(weight * weight for weight in weights)) or 1.0
            places += [place for place, _ in known]
            values += [length * weight / norm for weight in weights]
        return np.array(places, dtype=np.int64), np.array(values)

    def standard(self, found: Floats) -> Floats:
        """What the rules found, centred and brought to one spread, outliers held."""
        return np.clip((found - self._mean) / self._spread, -_MOST_SPREAD, _MOST_SPREAD) / math.sqrt(
            len(self._mean)
        )
