"""A small model over words, pairs of words, what the rules found, and how near in meaning the training examples are.

numpy runs it, `make train` makes it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.learned.meanings import Meanings, Vectors

HEADS = ("intent", "sentiment", "lead")
WEIGHTS = resources.files("trunkline_ai.engines.local") / "data" / "weights.npz"
Floats = NDArray[np.float64]
_AGENT = "a:"
_AGENT_WEIGHT = 0.5
_MOST_SPREAD = 3.0
_COMMON = 0.1
"""Of the examples: a word that so many have counts half for what a conversation means."""
_STEEPNESS = 3.0
"""How fast likeness falls with the angle between two meanings."""
STEPS = 127
"""Steps of the examples' vectors from 0 to 1."""


def words_of(conversation: Conversation) -> tuple[Counter[str], Counter[str]]:
    """Words and neighbouring pairs with how often they were said: the customer's, and the business's as `a:word`."""
    return _counted(conversation.customer, ""), _counted(conversation.agent, _AGENT)


def _counted(text: str, prefix: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in text.split("\n"):
        words = line.split()
        marked = [prefix + word for word in words] if prefix else words
        found.update(marked)
        found.update(map(" ".join, zip(marked, words[1:], strict=False)))
    return found


@dataclass(frozen=True)
class Examples:
    """What the training examples mean, in vectors of length 1, and how each counts for the labels of a head."""

    meanings: Meanings
    middle: Vectors
    """The mean of all examples before they were brought to one length."""
    vectors: Vectors
    """A row an example."""
    counts: Mapping[str, Vectors]
    """By head: examples x labels."""

    def meaning(self, weighted: Mapping[str, float]) -> Vectors:
        """What weighted words mean: a vector of length 1 from the middle, or of zeros."""
        mean = self.meanings.mean_of(weighted) - self.middle
        vector: Vectors = mean / (np.linalg.norm(mean) or np.float32(1.0))
        return vector

    def near(self, vectors: Vectors) -> Vectors:
        """How alike each example is to a vector, or to each column, 1 at the most."""
        near: Vectors = np.exp(np.float32(_STEEPNESS) * (self.vectors @ vectors - np.float32(1.0)))
        return near


class Model:
    """One row of scores a head: `intent`, `sentiment` and `lead`; each head's labels are in `labels`."""

    def __init__(
        self,
        vocabulary: Sequence[str],
        idf: Floats,
        mean: Floats,
        spread: Floats,
        heads: Mapping[str, tuple[Sequence[str], Floats, Floats]],
        examples: Examples | None = None,
    ) -> None:
        """`heads`: labels, weights of words then of rules (features x labels), and biases with sharpness last.

        Without `examples`, nothing of what words mean is read.
        """
        self._index = {word: number for number, word in enumerate(vocabulary)}
        # A list's numbers are read one at a time much faster than an array's.
        self._idf: list[float] = idf.tolist()
        self._mean, self._spread = mean, spread
        self._heads = heads
        self._examples = examples

    @classmethod
    def load(cls) -> Model:
        """The model that the package ships."""
        with resources.as_file(WEIGHTS) as path, np.load(path, allow_pickle=False) as kept:
            return cls.of({name: kept[name] for name in kept.files}, Meanings.load())

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.generic]], meanings: Meanings) -> Model:
        """The model of the arrays of a weights file."""
        vocabulary = arrays["vocabulary"].tobytes().decode().split("\n")
        heads = {
            name: (
                arrays[f"{name}_labels"].tobytes().decode().split("\n"),
                arrays[f"{name}_weights"].astype(np.float64),
                arrays[f"{name}_bias"].astype(np.float64),
            )
            for name in HEADS
        }
        idf, mean, spread = (arrays[name].astype(np.float64) for name in ("idf", "mean", "spread"))
        vectors = arrays["examples"].astype(np.float32)
        vectors /= STEPS
        examples = Examples(
            meanings,
            arrays["middle"].astype(np.float32),
            vectors,
            {name: arrays[f"{name}_counts"].astype(np.float32) for name in HEADS},
        )
        return cls(vocabulary, idf, mean, spread, heads, examples)

    def probabilities(
        self, conversation: Conversation, found: Sequence[float]
    ) -> dict[str, dict[str, float]]:
        """By head, each label's probability, 0 to 1, summing to 1; `found` is what the rules found."""
        places, values = self.sparse(conversation)
        rules = self.standard(np.array(found))
        examples = self._examples
        near = examples.near(examples.meaning(self.said(conversation))) if examples else None
        answer: dict[str, dict[str, float]] = {}
        for name, (labels, weights, bias) in self._heads.items():
            size = len(self._index)
            scores = bias[:-1] + values @ weights[places] + rules @ weights[size:]
            if examples is not None and near is not None:
                scores += near @ examples.counts[name]
            powers = np.exp(bias[-1] * (scores - scores.max()))
            answer[name] = dict(zip(labels, (powers / powers.sum()).tolist(), strict=True))
        return answer

    def sparse(self, conversation: Conversation) -> tuple[NDArray[np.int64], Floats]:
        """The places and weights of the words that the model knows; each speaker's weights have one length."""
        places: list[int] = []
        values: list[float] = []
        for counted, length in zip(words_of(conversation), (1.0, _AGENT_WEIGHT), strict=True):
            known = [
                (place, times)
                for word, times in counted.items()
                if (place := self._index.get(word)) is not None
            ]
            weights = [(1.0 + math.log(times)) * self._idf[place] for place, times in known]
            norm = math.sqrt(sum(weight * weight for weight in weights)) or 1.0
            places += [place for place, _ in known]
            values += [length * weight / norm for weight in weights]
        return np.array(places, dtype=np.int64), np.array(values)

    def said(self, conversation: Conversation) -> dict[str, float]:
        """How much each of the customer's words counts for what they mean: often said and rare elsewhere, the most."""
        said = Counter(conversation.customer.split())
        return {word: times * self._rarity(word) for word, times in said.items()}

    def _rarity(self, word: str) -> float:
        place = self._index.get(word)
        share = 0.0 if place is None else math.exp(1.0 - self._idf[place])
        return 1.0 / (1.0 + share / _COMMON)

    def standard(self, found: Floats) -> Floats:
        """What the rules found, centred and brought to one spread, outliers held."""
        return np.clip((found - self._mean) / self._spread, -_MOST_SPREAD, _MOST_SPREAD) / math.sqrt(
            len(self._mean)
        )
