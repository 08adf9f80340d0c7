"""How right the local engines are: precision, recall and F1 per label, and the words that recognition gets wrong.

`python -m tools.eval` takes the transcripts by authors apart (trained on, held out) and the sample calls.
`--data FILE` takes any file of one JSON object a line: id, text (turns marked `A:` agent, `C:` caller), spam (0|1),
sentiment, intent, lead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from trunkline_ai.engines.base import Context, SpeakerRole, Transcript, Turn
from trunkline_ai.engines.labels import Intent, LeadLevel, Sentiment
from trunkline_ai.engines.local.engine import LocalEngine

from tools import eval_pii
from tools.packages import ROOT

DATA = ROOT / "tests" / "data" / "analysis"
CALLS = ROOT / "tests" / "data" / "calls"
OUT = ROOT / "build" / "eval" / "local.json"
TARGETS = {"spam_f1": 0.95, "sentiment_accuracy": 0.90, "intent_accuracy": 0.88, "lead_accuracy": 0.85}
LABELS: dict[str, type[StrEnum]] = {"sentiment": Sentiment, "intent": Intent, "lead": LeadLevel}
_MARK = re.compile(r"(?:^|(?<=\s))([AC]|(?m:^)[ac]):(?=\s|$)")


class DataError(Exception):
    """A file cannot be evaluated; the message names line and field."""


@dataclass(frozen=True)
class Item:
    """One labelled transcript; `labels` by field, spam as `1` or `0`."""

    identity: str
    transcript: Transcript
    labels: dict[str, str]


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


def transcript_of(text: str) -> Transcript:
    """Turns by their marks, on lines of their own or not; text before the first mark is of an unknown speaker."""
    parts = _MARK.split(text)
    turns = [Turn(SpeakerRole.UNKNOWN, parts[0].strip())]
    for mark, said in zip(parts[1::2], parts[2::2], strict=True):
        turns.append(Turn(SpeakerRole.AGENT if mark in "Aa" else SpeakerRole.CUSTOMER, said.strip()))
    return Transcript(tuple(turn for turn in turns if turn.text))


def read(path: Path) -> list[Item]:
    """The items of a file. Raises DataError that names line and field."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    items = [_item(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise DataError(f"{path}: holds no transcripts")
    seen: set[str] = set()
    for item in items:
        if item.identity in seen:
            raise DataError(f"{path}: field `id`: {item.identity!r} occurs twice")
        seen.add(item.identity)
    return items


def _item(place: str, line: str) -> Item:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: must be a JSON object with id, text, spam, sentiment, intent and lead")
    for field in ("id", "text", "spam", *LABELS):
        if field not in row:
            raise DataError(f"{place}: field `{field}` is missing")
    if not isinstance(row["id"], str | int):
        raise DataError(f"{place}: field `id` must be text")
    if not isinstance(row["text"], str):
        raise DataError(f"{place}: field `text` must be text, empty for silence")
    if row["spam"] not in (0, 1):
        raise DataError(f"{place}: field `spam` must be 0 or 1, not {json.dumps(row['spam'])}")
    labels = {"spam": str(int(row["spam"]))}
    for field, allowed in LABELS.items():
        if row[field] not in list(allowed):
            given = json.dumps(row[field])
            raise DataError(f"{place}: field `{field}` must be one of {', '.join(allowed)}, not {given}")
        labels[field] = row[field]
    return Item(str(row["id"]), transcript_of(row["text"]), labels)


def answers(engine: LocalEngine, items: Sequence[Item]) -> list[dict[str, str]]:
    """What the engine says of each item."""
    results = [engine.analyze_now(item.transcript, Context()) for item in items]
    return [
        {
            "spam": str(int(one.spam)),
            "sentiment": one.sentiment.value,
            "intent": one.intent.value,
            "lead": one.lead_level.value,
        }
        for one in results
    ]


def tallies(field: str, items: Sequence[Item], answered: Sequence[dict[str, str]]) -> list[Tally]:
    """One tally a label that was expected or answered."""
    pairs = [(item.labels[field], answer[field]) for item, answer in zip(items, answered, strict=True)]
    return [
        Tally(
            label,
            sum(expected == label for expected, _ in pairs),
            sum(given == label for _, given in pairs),
            sum(expected == given == label for expected, given in pairs),
        )
        for label in sorted({label for pair in pairs for label in pair})
    ]


def figures_of(items: Sequence[Item], answered: Sequence[dict[str, str]]) -> dict[str, float]:
    """spam_f1 and the accuracies."""
    spam = next((one for one in tallies("spam", items, answered) if one.label == "1"), None)
    # Without spam in the data and in the answers there is nothing to miss: a perfect score.
    figures = {"spam_f1": spam.f1 if spam else 1.0}
    for field in LABELS:
        right = sum(one.right for one in tallies(field, items, answered))
        figures[f"{field}_accuracy"] = right / len(items)
    return {name: round(value, 4) for name, value in figures.items()}


def show(title: str, items: Sequence[Item], answered: Sequence[dict[str, str]], *, mistakes: bool) -> None:
    """Print the tables of one file."""
    print(f"\n== {title}: {len(items)} transcripts")
    for field in ("spam", *LABELS):
        print(f"\n{field:<20} {'expected':>8} {'precision':>9} {'recall':>7} {'F1':>6}")
        rows = tallies(field, items, answered)
        for row in rows:
            print(
                f"  {row.label:<18} {row.expected:>8} {row.precision:>9.3f} {row.recall:>7.3f} {row.f1:>6.3f}"
            )
        macro = sum(row.f1 for row in rows) / len(rows)
        accuracy = sum(row.right for row in rows) / len(items)
        print(f"  {'total':<18} {len(items):>8} accuracy {accuracy:.3f}, macro F1 {macro:.3f}")
    if mistakes:
        for item, answer in zip(items, answered, strict=True):
            wrong = [f"{f} {item.labels[f]} -> {answer[f]}" for f in answer if answer[f] != item.labels[f]]
            if wrong:
                print(f"  {item.identity}: {'; '.join(wrong)}")


async def word_errors() -> dict[str, float]:
    """Word error rates of the local speech engine over the English sample calls, by kind of recording."""
    # Only this part needs the audio service's libraries.
    from trunkline_audio.engines.whisper.settings import WhisperSettings  # noqa: PLC0415

    from tools.bench.audio.engine import Bench  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), WhisperSettings())
        async with bench.warm():
            await bench.words(json.loads((CALLS / "calls.json").read_text(encoding="utf-8")))
    return {name: round(rate, 4) for name, rate in bench.figures.items() if name.startswith("wer_")}


def _word_errors_or_why_not() -> dict[str, float]:
    if not (CALLS / "calls.json").exists():
        print("\nwords: no sample calls in tests/data/calls")
        return {}
    try:
        rates = asyncio.run(word_errors())
    except ImportError as error:
        print(f"\nwords: not measured, the audio service is not installed ({error})")
        return {}
    print("\n== words of the sample calls that are recognised wrongly (WER)")
    for name, rate in rates.items():
        print(f"  {name:<20} {rate:.3f}")
    return rates


def main() -> int:
    """Evaluate and report; 2 for a file that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="make eval", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--data", type=Path, help="a file of labelled transcripts instead of our own")
    parser.add_argument(
        "--mistakes", action="store_true", help="name every transcript that is labelled wrongly"
    )
    parser.add_argument("--no-words", action="store_true", help="do not transcribe the sample calls")
    options = parser.parse_args()
    try:
        files = [options.data] if options.data else [DATA / "apart-train.jsonl", DATA / "apart-heldout.jsonl"]
        sets = [(path.stem, read(path)) for path in files]
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    engine = LocalEngine()
    figures: dict[str, float] = {}
    for title, items in sets:
        answered = answers(engine, items)
        show(title, items, answered, mistakes=options.mistakes)
        found = figures_of(items, answered)
        # The last file gives the plain names: the held-out half, or the file that was asked for.
        figures.update(
            {f"train_{name}": value for name, value in found.items()}
            if title == "apart-train" and not options.data
            else found
        )
    print(f"\n{'figure':<22} {'value':>6} {'target':>7}")
    for name, target in TARGETS.items():
        print(
            f"{name:<22} {figures[name]:>6.3f} {target:>7.2f}{'' if figures[name] >= target else '  missed'}"
        )
    if not options.data:
        figures.update(eval_pii.figures())
    if not options.data and not options.no_words:
        figures.update(_word_errors_or_why_not())
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"\n{engine.name}: figures are in {OUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
