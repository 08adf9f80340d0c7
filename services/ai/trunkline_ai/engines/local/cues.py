"""Weighted cues kept in readable TOML tables, compiled once and matched against canonical text.

A regular expression that begins with a word is tried only where one of the words stands that may begin it: an
expression's attempt at each letter of a text is what costs most.
"""

import re
import string
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

from trunkline_ai.engines.local.text import Places, Spoken, Written

_DATA = resources.files("trunkline_ai.engines.local") / "data"
_PLAIN = re.compile(r"(?<![\w\\])[a-z]{4,}+(?!\w)")
_PIECE = re.compile(r"\\.|\[[^]]{0,80}+\]|\(\?(?:[:=!>]|<[=!]|P<\w++>|-?+i:)|\{\d*+,?+\d*+\}|.", re.DOTALL)
_OF_WORDS = frozenset(f"{string.ascii_lowercase}{string.digits}_ñáéíóú")
_ASSERTIONS = frozenset({"=", "!", "<=", "<!"})
_REPEATS = re.compile(r"[?*+]|\{\d*+,?+\d*+\}")
_STEM = 4
"""Letters of a stem by which expressions are looked up."""


@dataclass(frozen=True)
class Cue:
    """One regular expression over canonical text and what it weighs."""

    pattern: re.Pattern[str]
    weight: float
    expression: str
    """As it is written in a table, with its macros put in."""


class _Heads:
    """Which of several expressions a word begins, or may begin: those of `anywhere` may begin between words too."""

    def __init__(self, expressions: Iterable["_Begins"]) -> None:
        self.anywhere: list[int] = []
        self._by_pair: dict[str, list[int]] = {}
        self._by_head: dict[str, list[int]] = {}
        self._by_stem: dict[int, dict[str, list[int]]] = {}
        for number, begins in enumerate(expressions):
            if "" in begins.whole or "" in begins.cut:
                self.anywhere.append(number)
                continue
            for pair in begins.pairs:
                self._by_pair.setdefault(pair, []).append(number)
            for head in begins.whole:
                self._by_head.setdefault(head, []).append(number)
            for stem in {stem[:_STEM] for stem in begins.cut}:
                self._by_stem.setdefault(len(stem), {}).setdefault(stem, []).append(number)

    def begun(self, places: Places, pairs: Places | None = None) -> dict[int, list[int]]:
        """Where in a text expressions may begin, by their numbers. `pairs`: where two words follow each other."""
        begun: dict[int, list[int]] = {}
        for heads, words in ((self._by_head, places), (self._by_pair, pairs or {})):
            for word in heads.keys() & words.keys():
                for number in heads[word]:
                    begun.setdefault(number, []).extend(words[word])
        for length, stems in self._by_stem.items():
            for word, where in places.items():
                for number in stems.get(word[:length], ()):
                    begun.setdefault(number, []).extend(where)
        return begun


class WordPatterns:
    """Patterns whose matches begin and end with whole words, in any case."""

    def __init__(self, *patterns: re.Pattern[str]) -> None:
        self._patterns = patterns
        self._heads = _Heads(_Begins(pattern.pattern, of_cue=False) for pattern in patterns)
        assert not self._heads.anywhere, [patterns[number].pattern for number in self._heads.anywhere]

    def find(self, text: Written) -> Iterator[Iterable[re.Match[str]]]:
        """What each pattern finds, in order."""
        if text.places is None:
            return (pattern.finditer(text) for pattern in self._patterns)
        begun = self._heads.begun(text.places)
        return (
            _matches(pattern, text, begun[number]) if number in begun else ()
            for number, pattern in enumerate(self._patterns)
        )

    def are_in(self, text: Written) -> bool:
        """Whether any of them finds anything."""
        return any(True for found in self.find(text) for _ in found)


def _matches(pattern: re.Pattern[str], text: str, where: list[int]) -> Iterator[re.Match[str]]:
    """What a pattern finds from these places on."""
    end = 0
    for place in sorted(where):
        if place >= end and (found := pattern.match(text, place)):
            yield found
            end = found.end()


class CueTable:
    """Cues by label; a cue counts once, however often it is said."""

    def __init__(self, cues: Mapping[str, tuple[Cue, ...]]) -> None:
        self._cues: list[Cue] = []
        self._labels: dict[str, range] = {}
        for label, of_label in cues.items():
            self._labels[label] = range(len(self._cues), len(self._cues) + len(of_label))
            self._cues += of_label

    @cached_property
    def _heads(self) -> _Heads:
        return _Heads(_Begins(cue.expression) for cue in self._cues)

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
        return pattern.finditer(text) if where is None else _matches(pattern, text, where)


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


class _Begins:
    """How what an expression matches begins: with two words of `pairs`, with a `whole` word, or with a `cut` one.

    Of a cut word the rest is open.

    Reads what the suite uses: letters, groups, alternatives, repeats, classes, and assertions, which it takes as met.
    """

    def __init__(self, expression: str, *, of_cue: bool = True) -> None:
        """`of_cue`: it matches canonical text. No more of a word comes after what it matches."""
        self._of_cue = of_cue
        self._rest = list(reversed(_PIECE.findall(expression)))
        self.pairs: set[str] = set()
        self.whole: set[str] = set()
        self.cut: set[str] = set()
        self._end(self._alternatives({""}))

    def _alternatives(self, begun: set[str]) -> set[str]:
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
                self._leave(after - begun)
                after = set()
            begun = after | begun if repeats[:1] in ("?", "*") or repeats.startswith(("{0", "{,")) else after
        return begun

    def _one(self, piece: str, begun: set[str]) -> set[str]:
        if piece.startswith("("):
            inner = self._asserted(begun) if piece[2:] in _ASSERTIONS else self._alternatives(begun)
            self._rest.pop()
            return inner
        if piece in ("^", "$", r"\b"):
            return begun
        if piece == r"\d":
            self._leave({word + digit for word in begun for digit in string.digits})
            return set()
        if piece == "." or piece[0] in "[\\":
            # Marks and spaces end the word.
            goes_on = any(map(re.compile(piece, re.IGNORECASE).fullmatch, _OF_WORDS))
            (self._leave if goes_on else self._end)(begun)
            return set()
        if piece == " " and self._of_cue:
            self._end({words for words in begun if " " in words or not words})
            return {f"{word} " for word in begun if word and " " not in word}
        if piece.lower() not in _OF_WORDS:
            self._end(begun)
            return set()
        return {words + piece.lower() for words in begun}

    def _end(self, begun: Iterable[str]) -> None:
        """The last word is there to its end."""
        for words in begun:
            if " " in words and not words.endswith(" "):
                self.pairs.add(words)
            else:
                self.whole.add(words.rstrip())

    def _leave(self, begun: Iterable[str]) -> None:
        """The rest of the last word is open."""
        for words in begun:
            first, space, _ = words.partition(" ")
            (self.whole if space else self.cut).add(first)

    def _asserted(self, begun: set[str]) -> set[str]:
        depth = 0
        while depth or self._next() != ")":
            piece = self._rest.pop()
            depth += piece.startswith("(") - (piece == ")")
        return begun
