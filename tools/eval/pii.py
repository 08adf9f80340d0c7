"""How much personal data is found: recall and precision per kind, over tests/data/pii.

A labelled stretch is found when all of its words are: of the same kind, or hidden as another one. A find is right when
at least half of it is labelled as its kind.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trunkline_ai.engines.base import SpeakerRole, Turn
from trunkline_ai.pii import PiiKind
from trunkline_ai.redaction.finder import find_pii

from tools.packages import ROOT

DATA = ROOT / "tests" / "data" / "pii" / "pii.jsonl"
DOCS = ROOT / "docs" / "privacy.md"
BEGIN, END = "<!-- figures of make eval: begin -->", "<!-- figures of make eval: end -->"
SPLITS = ("dev", "heldout")
_MARK = re.compile(r"^([AC]): ", re.MULTILINE)
_SPOKEN = re.compile(r"[^\W_]+")
_NO_PART = frozenset({"uh", "um", "er", "hm", "A", "C", "Uh", "huh", "in", "at", "and", "the"})


@dataclass(frozen=True)
class Labelled:
    """One conversation; spans by kind, as offsets into `text`."""

    identity: str
    split: str
    text: str
    spans: tuple[tuple[PiiKind, int, int], ...]


@dataclass
class Counts:
    """What was found, by kind."""

    expected: Counter[PiiKind] = field(default_factory=Counter)
    found: Counter[PiiKind] = field(default_factory=Counter)
    hidden: Counter[PiiKind] = field(default_factory=Counter)
    given: Counter[PiiKind] = field(default_factory=Counter)
    right: Counter[PiiKind] = field(default_factory=Counter)
    mistakes: list[str] = field(default_factory=list)

    def recall(self, kind: PiiKind | None = None) -> float:
        """Of the labelled stretches, those found as what they are; of all kinds: those hidden as anything."""
        if kind is None:
            return sum(self.hidden.values()) / max(1, sum(self.expected.values()))
        return self.found[kind] / max(1, self.expected[kind])

    def precision(self, kind: PiiKind | None = None) -> float:
        """Of the finds, those that are right."""
        if kind is None:
            return sum(self.right.values()) / max(1, sum(self.given.values()))
        return self.right[kind] / max(1, self.given[kind])


def read(path: Path = DATA) -> list[Labelled]:
    """Read a file of labelled conversations; words labelled twice are said twice."""
    made = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        spans: list[tuple[PiiKind, int, int]] = []
        for one in sorted(row["spans"], key=lambda one: -len(one["text"])):
            start = _next(row["text"], one["text"], spans)
            spans.append((PiiKind(one["kind"]), start, start + len(one["text"])))
        made.append(Labelled(row["id"], row["split"], row["text"], tuple(spans)))
    return made


def _next(text: str, part: str, taken: Sequence[tuple[PiiKind, int, int]]) -> int:
    """Return where a part first stands as whole words, outside of what is labelled already."""
    at = text.find(part)
    while at >= 0:
        end = at + len(part)
        whole = not (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum())
        if whole and all(end <= first or at >= last for _, first, last in taken):
            return at
        at = text.find(part, at + 1)
    raise ValueError(f"{part!r} is not there so often")


def turns_of(text: str) -> tuple[list[Turn], list[int]]:
    """Return the turns, and where in the text each begins."""
    marks = list(_MARK.finditer(text))
    turns, starts = [], []
    for mark, following in zip(marks, [*marks[1:], None], strict=False):
        end = following.start() if following else len(text)
        role = SpeakerRole.AGENT if mark[1] == "A" else SpeakerRole.CUSTOMER
        turns.append(Turn(role, text[mark.end() : end].rstrip("\n")))
        starts.append(mark.end())
    return turns, starts


def count(items: Sequence[Labelled]) -> Counts:
    """Find in all conversations, and compare."""
    counts = Counts()
    for item in items:
        _compare(item, counts)
    return counts


def _compare(item: Labelled, counts: Counts) -> None:
    turns, starts = turns_of(item.text)
    covered: dict[PiiKind, set[int]] = {kind: set() for kind in PiiKind}
    finds = find_pii(turns)
    for find in finds:
        for place in find.places:
            covered[find.kind] |= set(range(starts[place.turn] + place.start, starts[place.turn] + place.end))
    anything = set().union(*covered.values())
    labelled: dict[PiiKind, set[int]] = {kind: set() for kind in PiiKind}
    for kind, start, end in item.spans:
        labelled[kind] |= set(range(start, end))
        words = [m for m in _SPOKEN.finditer(item.text, start, end) if m.group() not in _NO_PART]
        needed = {at for m in words for at in range(*m.span())}
        counts.expected[kind] += 1
        counts.found[kind] += needed <= covered[kind]
        counts.hidden[kind] += needed <= anything
        if not needed <= covered[kind]:
            counts.mistakes.append(f"{item.identity} missed {kind} {item.text[start:end]!r}")
    for find in finds:
        here = {at for p in find.places for at in range(starts[p.turn] + p.start, starts[p.turn] + p.end)}
        good = len(here & labelled[find.kind]) * 2 >= len(here)
        counts.given[find.kind] += 1
        counts.right[find.kind] += good
        if not good:
            said = [turns[p.turn].text[p.start : p.end] for p in find.places]
            counts.mistakes.append(f"{item.identity} invented {find.kind} {said}")


def figures() -> dict[str, float]:
    """Print the tables of both halves, write them to the docs, and return the figures by name."""
    halves = {split: count([item for item in read() if item.split == split]) for split in SPLITS}
    made: dict[str, float] = {}
    for split, counts in halves.items():
        print(f"\n== personal data, {split}\n{table(counts)}")
        told = {"pii_hidden": counts.recall(), "pii_precision": counts.precision()}
        for kind in PiiKind:
            told[f"pii_{kind}_recall"] = counts.recall(kind)
            told[f"pii_{kind}_precision"] = counts.precision(kind)
        made |= {f"{split}_{name}": round(value, 4) for name, value in told.items()}
    page = DOCS.read_text(encoding="utf-8")
    DOCS.write_text(documented(page, halves["heldout"]), encoding="utf-8")
    return made


def table(counts: Counts) -> str:
    """Return the figures as a table of Markdown."""
    rows = ["| kind | labelled | recall | precision |", "|---|---|---|---|"]
    for kind in PiiKind:
        told = f"{counts.recall(kind):.2f} | {counts.precision(kind):.2f}"
        rows.append(f"| {kind.replace('_', ' ')} | {counts.expected[kind]} | {told} |")
    total = f"{counts.recall():.2f} | {counts.precision():.2f}"
    rows.append(f"| all | {sum(counts.expected.values())} | {total} |")
    return "\n".join(rows)


def documented(page: str, counts: Counts) -> str:
    """Return a page of the docs with the table between its marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(counts)}\n\n{END}{after}"


def main() -> None:
    """Print the figures, or the mistakes of the half that finders are written with."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--mistakes", action="store_true", help="name what is wrong in the half `dev`")
    if not parser.parse_args().mistakes:
        figures()
        return
    counts = count([item for item in read() if item.split == "dev"])
    print("\n".join([table(counts), *counts.mistakes]))


if __name__ == "__main__":
    main()
