"""What an evaluation found out, as values for JSON and as tables for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tools.eval.asking import Answers
from tools.eval.data import FIELDS, Item
from tools.eval.figures import (
    TARGETS,
    Agreement,
    bins,
    calibration_error,
    claims_of,
    figures_of,
    tallies,
)

_CLAIMS = {
    "intent_confidence": "the intent's confidence, and how often the intent is right",
    "lead_score": "the lead's score in percent, and how often the label is medium or high",
}


@dataclass(frozen=True)
class Found:
    """One engine's answers to the items of one file."""

    title: str
    items: Sequence[Item]
    answers: Answers

    @property
    def figures(self) -> dict[str, float]:
        """The figures that have targets, and the errors of calibration."""
        claims = claims_of(self.items, self.answers.given)
        errors = {f"{name}_error": round(calibration_error(bins(one)), 4) for name, one in claims.items()}
        return {**figures_of(self.items, self.answers.given), **errors}

    def values(self) -> dict[str, Any]:
        """All of it, for JSON."""
        given, told = self.answers.given, self.answers
        return {
            "transcripts": len(self.items),
            "answered": sum(answer is not None for answer in given),
            "failures": dict(told.failures),
            "figures": self.figures,
            "labels": {
                field: [
                    {
                        **asdict(one),
                        "precision": round(one.precision, 4),
                        "recall": round(one.recall, 4),
                        "f1": round(one.f1, 4),
                    }
                    for one in tallies(field, self.items, given)
                ]
                for field in FIELDS
            },
            "calibration": {
                name: [asdict(one) for one in bins(claims)]
                for name, claims in claims_of(self.items, given).items()
            },
            "usage": {
                "input_tokens": told.input_tokens,
                "output_tokens": told.output_tokens,
                "cost_micros": told.cost_micros,
                "unpriced_count": told.unpriced,
            },
        }

    def show(self, *, mistakes: bool) -> None:
        """Print the tables of one file."""
        print(f"\n== {self.answers.engine} on {self.title}: {len(self.items)} transcripts")
        for field in FIELDS:
            self._show_field(field)
        for name, claims in claims_of(self.items, self.answers.given).items():
            _show_claims(name, claims)
        if mistakes:
            self._show_mistakes()
        self._show_asking()

    def _show_field(self, field: str) -> None:
        print(f"\n{field:<20} {'expected':>8} {'precision':>9} {'recall':>7} {'F1':>6}")
        rows = tallies(field, self.items, self.answers.given)
        for row in rows:
            print(
                f"  {row.label:<18} {row.expected:>8} {row.precision:>9.3f} {row.recall:>7.3f} {row.f1:>6.3f}"
            )
        macro = sum(row.f1 for row in rows) / len(rows)
        accuracy = sum(row.right for row in rows) / len(self.items)
        print(f"  {'total':<18} {len(self.items):>8} accuracy {accuracy:.3f}, macro F1 {macro:.3f}")

    def _show_mistakes(self) -> None:
        for item, answer in zip(self.items, self.answers.given, strict=True):
            if answer is None:
                print(f"  {item.identity}: no answer")
                continue
            given = answer.labels
            wrong = [f"{f} {item.labels[f]} -> {given[f]}" for f in given if given[f] != item.labels[f]]
            if wrong:
                print(f"  {item.identity}: {'; '.join(wrong)}")

    def _show_asking(self) -> None:
        told = self.answers
        for reason, count in told.failures.most_common():
            print(f"\n{count} of {len(self.items)} not answered: {reason}")
        if told.input_tokens or told.output_tokens:
            unpriced = f"; {told.unpriced} answers have no price" if told.unpriced else ""
            cost = f"{told.cost_micros / 1_000_000:.4f} US dollars{unpriced}"
            print(f"\nread {told.input_tokens:,} tokens, wrote {told.output_tokens:,}: {cost}")


def _show_claims(name: str, claims: Sequence[tuple[float, bool]]) -> None:
    made = bins(claims)
    print(f"\n{_CLAIMS[name]}\n  {'claimed':<18} {'answers':>8} {'mean':>9} {'true':>7}")
    for one in made:
        print(
            f"  {f'{one.least:.1f} to {one.most:.1f}':<18} {one.count:>8} {one.claimed:>9.3f} {one.observed:>7.3f}"
        )
    print(f"  {'expected calibration error':<27} {round(calibration_error(made), 4):>9.3f}")


def show_targets(engine: str, figures: Mapping[str, float]) -> None:
    """Print an engine's figures beside their targets."""
    print(f"\n{engine}\n{'figure':<24} {'value':>6} {'target':>7}")
    for name, target in TARGETS.items():
        missed = "" if figures[name] >= target else "  missed"
        print(f"{name:<24} {figures[name]:>6.3f} {target:>7.2f}{missed}")
    for name in _CLAIMS:
        print(f"{name + '_error':<24} {figures[name + '_error']:>6.3f}")


def show_agreement(one: str, other: str, title: str, found: Mapping[str, Agreement]) -> None:
    """Print how far two engines agree."""
    print(f"\n{one} and {other} on {title}\n{'field':<20} {'answers':>8} {'the same':>9} {'kappa':>7}")
    for field, told in found.items():
        print(f"  {field:<18} {told.items:>8} {told.share:>9.3f} {told.kappa:>7.3f}")
