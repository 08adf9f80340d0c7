"""Weighted cues kept in readable TOML tables, compiled once and matched against canonical text."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

_DATA = resources.files("trunkline_ai.engines.local") / "data"
_WORD = re.compile(r"\w+")
_PLAIN = re.compile(r"(?<![\w\\])[a-z]{4,}+(?!\w)")
_PIECE = re.compile(r"\\.|\[[^]]{0,80}+\]|\(\?(?:[:=!>]|<[=!])|\{\d*+,?+\d*+\}|.", re.DOTALL)
_REPEATS = re.compile(r"[?*+]|\{\d*+,?+\d*+\}")
Places = Mapping[str, list[int]]
"""Where each word of a text begins."""


@dataclass(frozen=True)
class Cue:
    """One regular expression over canonical text and what it weighs."""

    pattern: re.Pattern[str]
    weight: float
    expression: str
    """As it is written in a table, with its macros put in."""


class _Sought:
    """Cues by the words that begin them: hundreds are looked for in a text, and few of its words begin one."""

    def __init__(self, cues: Sequence[Cue]) -> None:
        self._cues = cues
        self._by_head: dict[str, list[int]] = {}
        self._by_stem: dict[str, list[int]] = {}
        self._anywhere: list[int] = []
        for number, cue in enumerate(cues):
            begins = _Begins(_PIECE.findall(cue.expression))
            begins.whole |= begins.alternatives({""})
            if "" in begins.whole or "" in begins.cut:
                self._anywhere.append(number)
                continue
            for head in begins.whole:
                self._by_head.setdefault(head, []).append(number)
            for stem in begins.cut:
                self._by_stem.setdefault(stem, []).append(number)
        self._stem_lengths = sorted({len(stem) for stem in self._by_stem})

    def said(self, text: str, places: Places) -> set[int]:
        """The numbers of the cues that occur; `places` are those of the text."""
        cues = self._cues
        said = {number for number in self._anywhere if cues[number].pattern.search(text)}
        for word, where in places.items():
            for number in self._begun_by(word):
                if number not in said:
                    match = cues[number].pattern.match
                    for place in where:
                        if match(text, place):
                            said.add(number)
                            break
        return said

    def _begun_by(self, word: str) -> Sequence[int]:
        found: Sequence[int] = self._by_head.get(word, ())
        for length in self._stem_lengths:
            more = self._by_stem.get(word[:length])
            if more:
                found = (*found, *more)
        return found


class CueTable:
    """Cues by label; a cue counts once, however often it is said."""

    def __init__(self, cues: Mapping[str, tuple[Cue, ...]]) -> None:
        self._cues = cues

    @cached_property
    def _sought(self) -> _Sought:
        return _Sought([cue for of_label in self._cues.values() for cue in of_label])

    @classmethod
    def of(cls, table: Mapping[str, Mapping[str, float]], macros: Mapping[str, str]) -> "CueTable":
        """Compile `{label: {expression: weight}}`; `{name}` in an expression stands for a macro."""
        return cls(
            {
                label: tuple(_cue(text, float(weight), macros) for text, weight in cues.items())
                for label, cues in table.items()
            }
        )

    def scores(self, text: str) -> dict[str, float]:
        """The sum of the weights of each label's cues that occur in `text`."""
        said = self._sought.said(text, places_of(text))
        sums: dict[str, float] = {}
        number = 0
        for label, cues in self._cues.items():
            sums[label] = sum(cue.weight for place, cue in enumerate(cues, number) if place in said)
            number += len(cues)
        return sums

    def score(self, label: str, text: str) -> float:
        """The sum for one label; 0 for a label without cues."""
        return sum(cue.weight for cue in self._cues.get(label, ()) if cue.pattern.search(text))


def places_of(text: str) -> Places:
    """Where each word of canonical text begins."""
    places: dict[str, list[int]] = {}
    for found in _WORD.finditer(text):
        places.setdefault(found.group(), []).append(found.start())
    return places


def compile_cue(expression: str, macros: Mapping[str, str]) -> re.Pattern[str]:
    """An expression with its macros put in, held to word boundaries."""
    return re.compile(rf"\b(?:{_written_out(expression, macros)})(?!\w)", re.MULTILINE)


def load(name: str) -> dict[str, dict[str, dict[str, float]]]:
    """A table of the package's data folder: `{section: {label: {expression: weight}}}`."""
    return tomllib.loads((_DATA / name).read_text(encoding="utf-8"))


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


class _Begins:
    """The first words of what an expression matches: `whole` ones, and `cut` ones whose rest it leaves open.

    Reads what the tables use: letters, groups, alternatives, repeats, classes, and assertions, which it takes as met.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._rest = list(reversed(list(pieces)))
        self.whole: set[str] = set()
        self.cut: set[str] = set()

    def alternatives(self, begun: set[str]) -> set[str]:
        """Read up to the end of the group; what of the first word is there already, and may go on."""
        after = self._sequence(begun)
        while self._next() == "|":
            self._rest.pop()
            after |= self._sequence(begun)
        return after

    def _next(self) -> str:
        return self._rest[-1] if self._rest else ")"

    def _sequence(self, begun: set[str]) -> set[str]:
        while self._next() not in ("|", ")"):
            after = self._one(self._rest.pop(), begun)
            repeats = ""
            while _REPEATS.fullmatch(self._next()):
                repeats += self._rest.pop()
            if repeats and repeats != "?":
                # It may come once more, so that the word goes on in a way that is not followed up.
                self.cut |= after - begun
                after = set()
            begun = after | begun if repeats[:1] in ("?", "*") or repeats.startswith(("{0", "{,")) else after
        return begun

    def _one(self, piece: str, begun: set[str]) -> set[str]:
        if piece.startswith("("):
            inner = self.alternatives(begun) if piece in ("(", "(?:", "(?>") else self._asserted(begun)
            self._rest.pop()
            return inner
        if piece in ("^", "$", r"\b"):
            return begun
        if piece in (" ", "\n"):
            self.whole |= begun
            return set()
        if piece == "." or piece[0] in "[\\":
            self.cut |= begun
            return set()
        return {word + piece for word in begun}

    def _asserted(self, begun: set[str]) -> set[str]:
        depth = 0
        while depth or self._next() != ")":
            piece = self._rest.pop()
            depth += piece.startswith("(") - (piece == ")")
        return begun
