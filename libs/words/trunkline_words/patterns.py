"""Regular expressions that begin with a word, tried only where one of the words stands that may begin them.

An expression's attempt at each letter of a text is what costs most.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator

from trunkline_words.written import Places, Written

_PIECE = re.compile(r"\\.|\[[^]]{0,80}+\]|\(\?(?:[:=!>]|<[=!]|P<\w++>|-?+i:)|\{\d*+,?+\d*+\}|.", re.DOTALL)
_OF_WORDS = frozenset(f"{string.ascii_lowercase}{string.digits}_ñáéíóú")
_ASSERTIONS = frozenset({"=", "!", "<=", "<!"})
_REPEATS = re.compile(r"[?*+]|\{\d*+,?+\d*+\}")
_STEM = 4
"""Letters of a stem by which expressions are looked up."""


class Heads:
    """Which of several expressions a word begins, or may begin: those of `anywhere` may begin between words too."""

    def __init__(self, expressions: Iterable[Begins]) -> None:
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
        self._heads = Heads(Begins(pattern.pattern, of_cue=False) for pattern in patterns)
        assert not self._heads.anywhere, [patterns[number].pattern for number in self._heads.anywhere]

    def find(self, text: Written) -> Iterator[Iterable[re.Match[str]]]:
        """What each pattern finds, in order."""
        if text.places is None:
            return (pattern.finditer(text) for pattern in self._patterns)
        begun = self._heads.begun(text.places)
        return (
            matches(pattern, text, begun[number]) if number in begun else ()
            for number, pattern in enumerate(self._patterns)
        )

    def are_in(self, text: Written) -> bool:
        """Whether any of them finds anything."""
        return any(True for found in self.find(text) for _ in found)


def matches(pattern: re.Pattern[str], text: str, where: list[int]) -> Iterator[re.Match[str]]:
    """What a pattern finds from these places on."""
    end = 0
    for place in sorted(where):
        if place >= end and (found := pattern.match(text, place)):
            yield found
            end = found.end()


class Begins:
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


def found_with(pattern: re.Pattern[str], text: Written, *needed: str) -> Iterable[re.Match[str]]:
    """Return what a pattern finds; it is not looked for in a text without one of these parts, which all of it holds."""
    if text.isascii():
        lowered = text.lowered
        for part in needed:
            if part in lowered:
                break
        else:
            return ()
    return pattern.finditer(text)
