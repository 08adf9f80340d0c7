"""A conversation as words in order, with their places: what all finders read."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, NamedTuple, Protocol

from trunkline_words.personal.policy import PLACEHOLDER
from trunkline_words.written import straightened

_WORD = re.compile(rf"{PLACEHOLDER}|[^\W_]++(?:'[^\W_]++)*+|[^\w\s]|_")
"""A placeholder is one mark: what stands for personal data has none in it."""


class Turn(Protocol):
    """One stretch of speech by one speaker."""

    @property
    def role(self) -> str:
        """Whoever speaks: the same for all turns of a speaker."""

    @property
    def text(self) -> str:
        """What is said."""


class PlainTurn(NamedTuple):
    """The simplest turn."""

    role: str
    text: str


class TextWord(NamedTuple):
    """A word, a figure, or a mark; `start` and `end` count in its turn's text."""

    text: str
    """In lower case, with straight apostrophes, without accents."""
    said: str
    turn: int
    start: int
    end: int

    @property
    def marks(self) -> bool:
        """It is a punctuation mark."""
        return not self.text[0].isalnum()

    @property
    def capital(self) -> bool:
        """It begins with a capital."""
        return self.said[0].isupper()


class Speech:
    """The words of all turns, one after the other."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = tuple(turns)
        self.words: list[TextWord] = []
        self.firsts: list[int] = []
        """The index of each turn's first word, and the count of all words at the end."""
        for number, turn in enumerate(self.turns):
            self.firsts.append(len(self.words))
            text = straightened(turn.text)
            for found in _WORD.finditer(text):
                said = found.group()
                self.words.append(TextWord(_plain(said), said, number, found.start(), found.end()))
        self.firsts.append(len(self.words))

    def text(self, index: int) -> str:
        """Return a word's text; empty beyond both ends."""
        return self.words[index].text if 0 <= index < len(self.words) else ""

    def same_turn(self, first: int, second: int) -> bool:
        """Tell whether both are words of one turn."""
        inside = 0 <= first < len(self.words) and 0 <= second < len(self.words)
        return inside and self.words[first].turn == self.words[second].turn

    def touches(self, index: int) -> bool:
        """Tell whether nothing is between a word and the next one, of the same turn."""
        return self.same_turn(index, index + 1) and self.words[index].end == self.words[index + 1].start

    def end_of_turn(self, index: int) -> int:
        """Return the index behind the last word of a word's turn."""
        return self.firsts[self.words[index].turn + 1]

    def last_before(self, cues: frozenset[str]) -> list[int]:
        """Return for each word the index of the last word before it that is one of these; -1 for none."""
        found, last = [], -1
        for index, word in enumerate(self.words):
            found.append(last)
            if word.text in cues:
                last = index
        return found

    @cached_property
    def raw(self) -> list[bool]:
        """Tell of each turn whether it is written without capitals, as some recognisers do."""
        return [not any(letter.isupper() for letter in turn.text) for turn in self.turns]


def _plain(said: str) -> str:
    if said.isascii():
        return said.lower()
    parts = unicodedata.normalize("NFKD", said.lower())
    plain = "".join(part for part in parts if not unicodedata.combining(part)) or said
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in plain)


@dataclass(frozen=True, slots=True)
class TextPlace:
    """A stretch of one turn's text."""

    turn: int
    start: int
    end: int


def place(speech: Speech, first: int, end: int) -> TextPlace:
    """Return where the words from `first` up to `end` are: words of one turn."""
    begin, last = speech.words[first], speech.words[end - 1]
    return TextPlace(begin.turn, begin.start, last.end)


def word_lists(section: str, file: str = "words.toml") -> dict[str, frozenset[str]]:
    """Read the lists of a section of a file of the folder `data`."""
    return {name: frozenset(words.split()) for name, words in _tables(file)[section].items()}


def phrase_lists(section: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Read the lists of phrases of a section: between semicolons, each as its words."""
    lists = _tables("words.toml")["phrases"][section]
    return {
        name: tuple(tuple(phrase.split()) for phrase in phrases.split(";")) for name, phrases in lists.items()
    }


def _tables(file: str) -> dict[str, Any]:
    return tomllib.loads(
        (resources.files("trunkline_words.personal") / "data" / file).read_text(encoding="utf-8")
    )


ORDINARY = frozenset(
    word
    for line in (resources.files("trunkline_words.personal") / "data" / "ordinary.txt")
    .read_text(encoding="utf-8")
    .splitlines()
    if not line.startswith("#")
    for word in line.split()
)
"""Words that say nothing of a person where they are written small."""
