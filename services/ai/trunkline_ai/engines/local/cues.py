"""Weighted cues kept in readable TOML tables, compiled once and matched against canonical text.

A regular expression that begins with a word is tried only where one of the words stands that may begin it: an
expression's attempt at each letter of a text is what costs most.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

from trunkline_words.patterns import Begins, Heads, matches

from trunkline_ai.engines.local.text import Spoken

_DATA = resources.files("trunkline_ai.engines.local") / "data"
_PLAIN = re.compile(r"(?<![\w\\])[a-z]{4,}+(?!\w)")


@dataclass(frozen=True)
class Cue:
    """One regular expression over canonical text and what it weighs."""

    pattern: re.Pattern[str]
    weight: float
    expression: str
    """As it is written in a table, with its macros put in."""


class CueTable:
    """Cues by label; a cue counts once, however often it is said."""

    def __init__(self, cues: Mapping[str, tuple[Cue, ...]]) -> None:
        self._cues: list[Cue] = []
        self._labels: dict[str, range] = {}
        for label, of_label in cues.items():
            self._labels[label] = range(len(self._cues), len(self._cues) + len(of_label))
            self._cues += of_label

    @cached_property
    def _heads(self) -> Heads:
        return Heads(Begins(cue.expression) for cue in self._cues)

    @classmethod
    def of(cls, table: Mapping[str, Mapping[str, float]], macros: Mapping[str, str]) -> "CueTable":
        """Compile `{label: {expression: weight}}`; `{name}` in an expression stands for a macro."""
        return cls(
            {
                label: tuple(_cue(text, float(weight), macros) for text, weight in cues.items())
                for label, cues in table.items()
            }
        )

    def scores(self, text: Spoken) -> dict[str, float]:
        """The sum of the weights of each label's cues that occur in `text`."""
        return {label: self.score(label, text) for label in self._labels}

    def score(self, label: str, text: Spoken, lines: Set[int] | None = None) -> float:
        """The sum for one label, of all lines or of those with these numbers; 0 for a label without cues."""
        begun = self._begun(text)
        numbers = (number for number in self._labels.get(label, ()) if number in begun)
        if lines is None:
            said = (number for number in numbers if self._is_said(number, text, begun[number]))
        else:
            said = (
                number
                for number in numbers
                if any(text.line_at(found.start()) in lines for found in self._found(number, text, begun))
            )
        return sum(self._cues[number].weight for number in said)

    def lines(self, label: str, text: Spoken) -> Mapping[int, float]:
        """The sums for one label of the lines of `text`, by their numbers; those without a cue are left out.

        A cue reaches over one line only, so that it needs to be looked for in all of them but once.
        """
        begun = self._begun(text)
        sums: dict[int, float] = {}
        for number in self._labels.get(label, ()):
            weight = self._cues[number].weight
            for line in {text.line_at(found.start()) for found in self._found(number, text, begun)}:
                sums[line] = sums.get(line, 0) + weight
        return sums

    def counts(self, text: Spoken) -> dict[str, int]:
        """How often the cues of each label occur in `text`."""
        begun = self._begun(text)
        return {
            label: sum(1 for number in numbers for _ in self._found(number, text, begun))
            for label, numbers in self._labels.items()
        }

    def _begun(self, text: Spoken) -> Mapping[int, list[int] | None]:
        """Where cues may begin, by their numbers; None for anywhere."""
        begun = text.begun.get(self)
        if begun is None:
            begun = text.begun[self] = {
                **dict.fromkeys(self._heads.anywhere),
                **self._heads.begun(text.places, text.pairs),
            }
        return begun

    def _is_said(self, number: int, text: Spoken, where: list[int] | None) -> bool:
        pattern = self._cues[number].pattern
        if where is None:
            return pattern.search(text) is not None
        return any(pattern.match(text, place) for place in where)

    def _found(
        self, number: int, text: Spoken, begun: Mapping[int, list[int] | None]
    ) -> Iterable[re.Match[str]]:
        if number not in begun:
            return ()
        pattern, where = self._cues[number].pattern, begun[number]
        return pattern.finditer(text) if where is None else matches(pattern, text, where)


def compile_cue(expression: str, macros: Mapping[str, str]) -> re.Pattern[str]:
    """An expression with its macros put in, held to word boundaries."""
    return re.compile(rf"\b(?:{_written_out(expression, macros)})(?!\w)", re.MULTILINE)


def load(name: str) -> dict[str, dict[str, dict[str, float]]]:
    """A table of the package's data folder: `{section: {label: {expression: weight}}}`."""
    return tomllib.loads((_DATA / name).read_text(encoding="utf-8"))


@cache
def table(name: str, section: str) -> CueTable:
    """The cues of a section, `{section.label: {expression: weight}}`, with the table's own macros."""
    tables = load(name)
    return CueTable.of(
        tables[section], {macro: str(value) for macro, value in tables.get("macros", {}).items()}
    )


def words(key: str) -> frozenset[str]:
    """A list of words of `words.toml`."""
    return frozenset(str(load("words.toml")["words"][key]).split())


def of_tables() -> frozenset[str]:
    """The plain words of the tables of topics and intents: what callers of businesses speak of."""
    leaning = " ".join(str(words) for words in load("intents.toml")["words"].values())
    topics = " ".join(str(expression) for expression in load("topics.toml")["topics"].values())
    return frozenset(_PLAIN.findall(f"{leaning} {topics}"))


def _cue(expression: str, weight: float, macros: Mapping[str, str]) -> Cue:
    written_out = _written_out(expression, macros)
    return Cue(compile_cue(written_out, {}), weight, written_out)


def _written_out(expression: str, macros: Mapping[str, str]) -> str:
    for name, value in macros.items():
        expression = expression.replace("{" + name + "}", value)
    return expression
