"""Weighted cues kept in readable TOML tables, compiled once and matched against canonical text."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

_DATA = resources.files("trunkline_ai.engines.local") / "data"


@dataclass(frozen=True)
class Cue:
    """One regular expression over canonical text and what it weighs."""

    pattern: re.Pattern[str]
    weight: float


class CueTable:
    """Cues by label; a cue counts once, however often it is said."""

    def __init__(self, cues: Mapping[str, tuple[Cue, ...]]) -> None:
        self._cues = cues

    @classmethod
    def of(cls, table: Mapping[str, Mapping[str, float]], macros: Mapping[str, str]) -> "CueTable":
        """Compile `{label: {expression: weight}}`; `{name}` in an expression stands for a macro."""
        return cls(
            {
                label: tuple(Cue(compile_cue(text, macros), float(weight)) for text, weight in cues.items())
                for label, cues in table.items()
            }
        )

    def scores(self, text: str) -> dict[str, float]:
        """The sum of the weights of each label's cues that occur in `text`."""
        return {
            label: sum(cue.weight for cue in cues if cue.pattern.search(text))
            for label, cues in self._cues.items()
        }

    def score(self, label: str, text: str) -> float:
        """The sum for one label; 0 for a label without cues."""
        return sum(cue.weight for cue in self._cues.get(label, ()) if cue.pattern.search(text))


def compile_cue(expression: str, macros: Mapping[str, str]) -> re.Pattern[str]:
    """An expression with its macros put in, held to word boundaries."""
    for name, value in macros.items():
        expression = expression.replace("{" + name + "}", value)
    return re.compile(rf"\b(?:{expression})(?!\w)", re.MULTILINE)


def load(name: str) -> dict[str, dict[str, dict[str, float]]]:
    """A table of the package's data folder: `{section: {label: {expression: weight}}}`."""
    return tomllib.loads((_DATA / name).read_text(encoding="utf-8"))


def words(key: str) -> frozenset[str]:
    """A list of words of `words.toml`."""
    return frozenset(str(load("words.toml")["words"][key]).split())
