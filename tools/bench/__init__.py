"""Figures beside their targets: `make bench`. Performance is measured here, never in a timed unit test."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass

from tools.packages import ROOT

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Target:
    """What a figure should be, such as `< 20`."""

    relation: str
    value: float

    def met(self, figure: float) -> bool:
        """Whether the figure is there."""
        return bool(_COMPARE[self.relation](figure, self.value))


def report(name: str, figures: dict[str, float], targets: dict[str, Target]) -> None:
    """Print a line a figure, and write build/bench/<name>.json."""
    print(f"\n{name}")
    for key, figure in figures.items():
        target = targets.get(key)
        beside = (
            f"  target {target.relation} {target.value:g}  {'met' if target.met(figure) else 'MISSED'}"
            if target
            else ""
        )
        print(f"  {key:24} {figure:>12,.3f}{beside}".rstrip())
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(
        json.dumps({k: round(v, 4) for k, v in figures.items()}, indent=2) + "\n"
    )
