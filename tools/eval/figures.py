"""How right answers are, how far their probabilities can be believed, and how far two engines agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trunkline_ai.engines.labels import LeadLevel

from tools.eval.asking import Answer
from tools.eval.data import FIELDS, LABELS, Item

TARGETS = {"spam_f1": 0.95, "sentiment_accuracy": 0.90, "intent_accuracy": 0.88, "lead_accuracy": 0.85}
PROMISING = (LeadLevel.MEDIUM, LeadLevel.HIGH)
"""A lead's score, in percent, is read as how likely it is labelled as one of these."""
_BINS = 10


@dataclass(frozen=True)
class Tally:
    """What was right of one label."""

    label: str
    expected: int
    answered: int
    right: int

    @property
    def precision(self) -> float:
        """Of what was answered."""
        return self.right / self.answered if self.answered else 0.0

    @property
    def recall(self) -> float:
        """Of what was expected."""
        return self.right / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


@dataclass(frozen=True)
class Bin:
    """Answers that claim about the same probability."""

    least: float
    most: float
    count: int
    claimed: float
    """The mean of their claims."""
    observed: float
    """The share of them that came true."""


@dataclass(frozen=True)
class Agreement:
    """How far two engines say the same of the items that both answered."""

    items: int
    share: float
    """Of the items, those with the same label."""
    kappa: float
    """Cohen's: 0 as by chance, 1 always."""


def tallies(field: str, items: Sequence[Item], answered: Sequence[Answer | None]) -> list[Tally]:
    """One tally a label that was expected or answered. No answer is a wrong one, of no label."""
    pairs = [
        (item.labels[field], _label(answer, field)) for item, answer in zip(items, answered, strict=True)
    ]
    return [
        Tally(
            label,
            sum(expected == label for expected, _ in pairs),
            sum(given == label for _, given in pairs),
            sum(expected == given == label for expected, given in pairs),
        )
        for label in sorted({label for pair in pairs for label in pair if label})
    ]


def figures_of(items: Sequence[Item], answered: Sequence[Answer | None]) -> dict[str, float]:
    """spam_f1 and the accuracies."""
    spam = next((one for one in tallies("spam", items, answered) if one.label == "1"), None)
    # Without spam in the data and in the answers there is nothing to miss: a perfect score.
    figures = {"spam_f1": spam.f1 if spam else 1.0}
    for field in LABELS:
        right = sum(one.right for one in tallies(field, items, answered))
        figures[f"{field}_accuracy"] = right / len(items)
    return {name: round(value, 4) for name, value in figures.items()}


def claims_of(
    items: Sequence[Item], answered: Sequence[Answer | None]
) -> dict[str, list[tuple[float, bool]]]:
    """What answers claim, from 0 to 1, with whether it came true, by the name of the claim."""
    told = [(item.labels, answer) for item, answer in zip(items, answered, strict=True) if answer is not None]
    return {
        "intent_confidence": [
            (answer.intent_confidence, answer.labels["intent"] == labels["intent"]) for labels, answer in told
        ],
        "lead_score": [(answer.lead_score / 100, labels["lead"] in PROMISING) for labels, answer in told],
    }


def bins(claims: Sequence[tuple[float, bool]], count: int = _BINS) -> list[Bin]:
    """Claims by tenths, without the tenths that nobody claims; a claim of 1 belongs to the last one."""
    made = []
    for number in range(count):
        inside = [(claim, true) for claim, true in claims if min(int(claim * count), count - 1) == number]
        if inside:
            claimed = sum(claim for claim, _ in inside) / len(inside)
            observed = sum(true for _, true in inside) / len(inside)
            made.append(Bin(number / count, (number + 1) / count, len(inside), claimed, observed))
    return made


def calibration_error(made: Sequence[Bin]) -> float:
    """The expected calibration error: by how much claims miss what came true, on average over the answers."""
    total = sum(one.count for one in made)
    return sum(one.count * abs(one.claimed - one.observed) for one in made) / total if total else 0.0


def agreement(field: str, one: Sequence[Answer | None], other: Sequence[Answer | None]) -> Agreement:
    """How far two engines give the same labels of a field."""
    pairs = [
        (mine.labels[field], theirs.labels[field])
        for mine, theirs in zip(one, other, strict=True)
        if mine is not None and theirs is not None
    ]
    if not pairs:
        return Agreement(0, 0.0, 0.0)
    share = sum(mine == theirs for mine, theirs in pairs) / len(pairs)
    mine, theirs = Counter(pair[0] for pair in pairs), Counter(pair[1] for pair in pairs)
    chance = sum(mine[label] * theirs[label] for label in mine) / len(pairs) ** 2
    # Two engines that both say one and the same label of everything agree, though chance would do it too.
    return Agreement(len(pairs), share, (share - chance) / (1 - chance) if chance < 1 else 1.0)


def agreements(one: Sequence[Answer | None], other: Sequence[Answer | None]) -> dict[str, Agreement]:
    """How far two engines agree, by field."""
    return {field: agreement(field, one, other) for field in FIELDS}


def _label(answer: Answer | None, field: str) -> str:
    return "" if answer is None else answer.labels[field]
