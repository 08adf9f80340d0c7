"""Trains the local language engine's model: `make train` writes its weights, the same file for the same data.

A ridge regression on words, pairs of words, what the rules found, and how near in meaning examples are. It has a closed
form, so there is no seed to keep. How sharp its probabilities are is chosen on parts of the data that it was not
trained on.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from trunkline_ai.engines.base import Context
from trunkline_ai.engines.labels import Intent, LeadLevel, Sentiment
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_ai.engines.local.entities import find_entities
from trunkline_ai.engines.local.learned.meanings import Meanings
from trunkline_ai.engines.local.learned.model import STEPS, Examples, Model, words_of

from tools.eval import transcript_of
from tools.packages import ROOT

DATA = ROOT / "tests" / "data" / "analysis"
OUT = ROOT / "services/ai/trunkline_ai/engines/local/data/weights.npz"
SETS = {"apart-train": 1.0, "written": 0.8, "odd": 0.5, "dev": 0.7, "heldout": 0.7, "phrases": 0.25}
"""How much a transcript of each file counts."""
TUNED_ON = frozenset({"dev", "heldout", "phrases"})
"""The rules were tuned on these, so that what they find in them tells the model nothing of other transcripts."""
RULES_WEIGHT = {"intent": 0.3, "sentiment": 1.0, "lead": 0.6}
UNMARKED_WEIGHT = 0.5
"""Each transcript counts once more without the marks of its speakers, so much less."""
MEANING_WEIGHT = {"intent": 0.6, "sentiment": 0.6, "lead": 0.6}
RIDGE = {"intent": 0.3, "sentiment": 0.5, "lead": 0.5}
FOLDS = 5
COMMON = 60
"""Examples: a word of more is counted by columns, one of fewer by pairs."""
LABELS: dict[str, list[str]] = {"intent": list(Intent), "sentiment": list(Sentiment), "lead": list(LeadLevel)}
_MARK = re.compile(r"(?:^|(?<=\s))[AC]:(?=\s|$)")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """A labelled transcript, with what the rules found; `fold` is where its like is left out."""

    conversation: Conversation
    found: Sequence[float]
    labels: dict[str, str]
    weight: float
    tuned_on: bool
    apart: bool
    marked: bool
    fold: int


def examples(engine: LocalEngine, sets: dict[str, float] = SETS, folder: Path = DATA) -> list[Example]:
    """The transcripts of the training files, each with and without marks."""
    made = []
    for name, weight in sets.items():
        for number, line in enumerate((folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            labels = {field: row[field] for field in LABELS if field in row}
            for marked in (True, False):
                transcript = transcript_of(row["text"] if marked else _MARK.sub("", row["text"]))
                conversation = Conversation.of(transcript)
                found = engine.found(
                    transcript,
                    conversation,
                    engine.scores(conversation, Context()),
                    find_entities(transcript),
                )
                counts = weight * (1.0 if marked else UNMARKED_WEIGHT)
                made.append(
                    Example(conversation, found, labels, counts, name in TUNED_ON, name == "apart-train", marked,
                            number % FOLDS)
                )  # fmt: skip
    return made


def trained(
    chosen: Sequence[Example], sharpness: dict[str, float], meanings: Meanings
) -> dict[str, NDArray[np.generic]]:
    """The arrays of a weights file."""
    counted = [words_of(example.conversation) for example in chosen]
    occurs = Counter(word for pair in counted for words in pair for word in words)
    vocabulary = sorted(word for word, times in occurs.items() if times > 2)
    idf = np.array([math.log((1 + len(chosen)) / (1 + occurs[word])) + 1.0 for word in vocabulary])
    apart = np.array([example.found for example in chosen if not example.tuned_on])
    mean, spread = apart.mean(0), apart.std(0) + 1e-6
    blank = Model(vocabulary, idf, mean, spread, {})
    size = len(vocabulary)
    rows = [blank.sparse(example.conversation) for example in chosen]
    rules = np.array(
        [
            np.zeros(len(mean)) if example.tuned_on else blank.standard(np.array(example.found))
            for example in chosen
        ]
    )
    arrays: dict[str, NDArray[np.generic]] = {
        "vocabulary": np.frombuffer("\n".join(vocabulary).encode(), dtype=np.uint8),
        "idf": idf.astype(np.float32), "mean": mean.astype(np.float32), "spread": spread.astype(np.float32),
    }  # fmt: skip
    middle, steps = _meanings_of(chosen, blank, meanings)
    arrays["middle"], arrays["examples"] = middle, steps
    vectors = steps.astype(np.float32)
    vectors /= STEPS
    near = Examples(meanings, middle, vectors, {}).near(vectors.T)
    words_alike = _alike(rows, size)
    rules_alike = rules @ rules.T
    for head, labels in LABELS.items():
        used = np.array([number for number, example in enumerate(chosen) if head in example.labels])
        given = [chosen[number].labels[head] for number in used]
        weight = np.array([chosen[number].weight for number in used])
        totals = {label: weight[[one == label for one in given]].sum() for label in set(given)}
        # Rare labels count more, but not as much as if all were as frequent.
        weight = weight * np.array([math.sqrt(weight.sum() / len(totals) / totals[label]) for label in given])
        share = RULES_WEIGHT[head]
        meaning = MEANING_WEIGHT[head]
        alike = (words_alike + share**2 * rules_alike + meaning * near)[np.ix_(used, used)]
        wanted = np.array([[1.0 if one == label else 0.0 for label in labels] for one in given])
        bias = (weight[:, None] * wanted).sum(0) / weight.sum()
        alike[np.diag_indices_from(alike)] += RIDGE[head] / weight
        # The ridge keeps this far from singular, so that half the digits are enough.
        dual = np.linalg.solve(alike.astype(np.float32), (wanted - bias).astype(np.float32))
        of_words = np.zeros((size, len(labels)))
        for number, each in zip(used, dual, strict=True):
            places, values = rows[number]
            of_words[places] += values[:, None] * each
        counts = np.zeros((len(chosen), len(labels)))
        counts[used] = meaning * dual
        weights = np.concatenate([of_words, share**2 * (rules[used].T @ dual)])
        arrays[f"{head}_labels"] = np.frombuffer("\n".join(labels).encode(), dtype=np.uint8)
        arrays[f"{head}_weights"] = weights.astype(np.float16)
        arrays[f"{head}_counts"] = counts.astype(np.float16)
        arrays[f"{head}_bias"] = np.array([*bias, sharpness[head]], dtype=np.float32)
    return arrays


def _meanings_of(
    chosen: Sequence[Example], blank: Model, meanings: Meanings
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """The middle of what examples mean, and the vector of each from it, in steps."""
    means = np.array([meanings.mean_of(blank.said(example.conversation)) for example in chosen])
    middle = means.mean(0)
    away = means - middle
    lengths = np.linalg.norm(away, axis=1, keepdims=True)
    return middle, np.round(STEPS * away / np.maximum(lengths, 1e-9)).astype(np.int8)


def _alike(rows: Sequence[tuple[NDArray[np.int64], Floats]], size: int) -> Floats:
    """How alike each two examples are by their words: most words are in few examples, so few pairs are looked at."""
    holders: list[list[tuple[int, float]]] = [[] for _ in range(size)]
    for number, (places, values) in enumerate(rows):
        for place, value in zip(places.tolist(), values.tolist(), strict=True):
            holders[place].append((number, value))
    common = [held for held in holders if len(held) > COMMON]
    dense = np.zeros((len(rows), len(common)))
    for place, held in enumerate(common):
        dense[[number for number, _ in held], place] = [value for _, value in held]
    alike = dense @ dense.T
    for held in holders:
        if 0 < len(held) <= COMMON:
            numbers = np.array([number for number, _ in held])
            values = np.array([value for _, value in held])
            alike[np.ix_(numbers, numbers)] += np.outer(values, values)
    return alike


def written(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """The file: the same bytes for the same arrays."""
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def cross_validated(made: Sequence[Example]) -> dict[str, float]:
    """The sharpness a head that fits best what was left out, and, printed, how right the model is there."""
    meanings = Meanings.load()
    answers: dict[str, list[tuple[dict[str, float], str, bool]]] = {head: [] for head in LABELS}
    for fold in range(FOLDS):
        rest = [one for one in made if not (one.apart and one.fold == fold)]
        model = Model.of(trained(rest, dict.fromkeys(LABELS, 1.0), meanings), meanings)
        for one in made:
            if one.apart and one.fold == fold:
                likely = model.probabilities(one.conversation, one.found)
                for head in LABELS:
                    answers[head].append((likely[head], one.labels[head], one.marked))
    best = {}
    for head, told in answers.items():
        for marked in (True, False):
            right = [max(likely, key=lambda one: likely[one]) == label for likely, label, kind in told
                     if kind == marked]  # fmt: skip
            print(
                f"{head:<10} {'marked' if marked else 'unmarked':<9} {sum(right) / len(right):.3f} of {len(right)}"
            )
        best[head] = min((0.5 * step for step in range(2, 41)), key=lambda sharp: _loss(told, sharp))
        print(f"{head:<10} sharpness {best[head]}")
    return best


def _loss(told: Sequence[tuple[dict[str, float], str, bool]], sharpness: float) -> float:
    total = 0.0
    for likely, label, _ in told:
        powers = {one: value**sharpness for one, value in likely.items()}
        total -= math.log(max(powers[label] / sum(powers.values()), 1e-12))
    return total


def main() -> None:
    """Train and write."""
    blank = np.zeros(0)
    made = examples(LocalEngine(Model([], blank, blank, blank, {})))
    content = written(trained(made, cross_validated(made), Meanings.load()))
    OUT.write_bytes(content)
    print(f"{len(made)} examples, {len(content):,} bytes in {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
