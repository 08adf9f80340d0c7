"""Finding words in a transcript again: where they stand, and when they were said."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from trunkline_words.personal.policy import PLACEHOLDER

from trunkline_ai.engines.base import Transcript
from trunkline_ai.engines.findings import Quote, Side

MOST_QUOTED = 300
"""Characters of a quote that are kept; its offsets are those of all of it."""
_WORD = re.compile(
    rf"{PLACEHOLDER}|" r"(?:[^\W_]|['’\u0300-\u036f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff])+"
)
"""A placeholder is one word, so that nobody finds `phone` in `[PHONE_1]`."""
_UNSEEN = re.compile(r"['’\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+")


def folded(word: str) -> str:
    """A word in the form that its spellings share: composed, no case, no apostrophes, no marks that nobody sees."""
    plain = _UNSEEN.sub("", word)
    return (plain if plain.isascii() else unicodedata.normalize("NFC", plain)).casefold()


@dataclass(frozen=True, slots=True)
class FoldedWord:
    """A folded word, and where it stands in `Transcript.text`."""

    text: str
    start: int
    end: int
    turn: int


def words_of(text: str, offset: int = 0, turn: int = 0) -> Iterator[FoldedWord]:
    """The words of a text in order; what holds no letter and no figure is none."""
    for found in _WORD.finditer(text):
        if word := folded(found.group()):
            yield FoldedWord(word, found.start() + offset, found.end() + offset, turn)


@dataclass(frozen=True)
class Script:
    """A transcript that quotes are taken from."""

    transcript: Transcript

    @cached_property
    def text(self) -> str:
        """What offsets count in."""
        return self.transcript.text

    @cached_property
    def starts(self) -> list[int]:
        """Where each turn begins."""
        at, starts = 0, []
        for turn in self.transcript.turns:
            starts.append(at)
            at += len(turn.text) + 1
        return starts

    @cached_property
    def words(self) -> list[FoldedWord]:
        """All words in order."""
        turns = enumerate(zip(self.transcript.turns, self.starts, strict=True))
        return [word for number, (turn, start) in turns for word in words_of(turn.text, start, number)]

    @cached_property
    def _line(self) -> tuple[str, list[int]]:
        """All words, a space on both sides of each, and a line's end between turns; and where each word begins."""
        pieces: list[str] = []
        starts: list[int] = []
        at, turn = 0, 0
        for word in self.words:
            if word.turn != turn:
                pieces.append(" \n")
                at, turn = at + 2, word.turn
            pieces.append(f" {word.text}")
            starts.append(at)
            at += len(word.text) + 1
        return "".join(pieces) + " ", starts

    def turn_at(self, offset: int) -> int:
        """The number of the turn that an offset is in."""
        return max(0, bisect_right(self.starts, offset) - 1)

    def side_at(self, offset: int) -> Side:
        """Who said what stands at an offset."""
        turns = self.transcript.turns
        return Side(turns[self.turn_at(offset)].role.value) if turns else Side.UNKNOWN

    def quote(self, start: int, end: int) -> Quote:
        """What stands from `start` to `end`, with its times."""
        began, ended = self._times(start, end)
        return Quote(self.text[start:end][:MOST_QUOTED], start, end, began, ended)

    def silent(self, start: int, end: int) -> Quote:
        """The same without the words."""
        return replace(self.quote(start, end), text="")

    def find(self, said: str) -> Quote | None:
        """Where somebody said this, in one turn, in any case and punctuation; None when nobody did."""
        start = self.text.find(said) if said.strip() else -1
        if start >= 0 and self.turn_at(start) == self.turn_at(start + len(said) - 1):
            return self.quote(start, start + len(said))
        return self._by_words([word.text for word in words_of(said)])

    def _by_words(self, wanted: list[str]) -> Quote | None:
        if not wanted:
            return None
        line, starts = self._line
        at = line.find(f" {' '.join(wanted)} ")
        if at < 0:
            return None
        first = bisect_right(starts, at) - 1
        return self.quote(self.words[first].start, self.words[first + len(wanted) - 1].end)

    def _times(self, start: int, end: int) -> tuple[float | None, float | None]:
        began = self._moment(start, ends=False)
        return began, self._moment(max(start, end - 1), ends=True) if began is not None else None

    def _moment(self, offset: int, *, ends: bool) -> float | None:
        if not self.transcript.turns:
            return None
        number = self.turn_at(offset)
        times = self.transcript.turns[number].times
        if not times:
            return None
        within = offset - self.starts[number]
        place = max(0, bisect_right(times, within, key=lambda one: one.start) - 1)
        return times[place].end_seconds if ends else times[place].start_seconds
