"""When each character of a segment's text is said, going by the times of its words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters `first` to `last` (exclusive) of a segment's text, said from `start` to `end`, in microseconds."""

    first: int
    last: int
    start: int
    end: int


class Timing:
    """The times of a segment's text, never going back; `segment` is as it is stored (see rows.segment).

    Where the engine gave no words, or words that are not those of the text, the segment's time is spread evenly.
    """

    def __init__(self, segment: Mapping[str, Any]) -> None:
        self.stretches = _stretches(segment)
        self._firsts = [stretch.first for stretch in self.stretches]

    def start(self, character: int) -> int:
        """Return when a character begins, in microseconds."""
        return self._at(self._holding(character), character)

    def end(self, character: int) -> int:
        """Return when the last character before this one ends, in microseconds."""
        return self._at(self._holding(character - 1), character)

    def _holding(self, character: int) -> Stretch:
        return self.stretches[max(0, bisect_right(self._firsts, character) - 1)]

    def _at(self, stretch: Stretch, character: int) -> int:
        part = min(max(character - stretch.first, 0), stretch.last - stretch.first)
        return stretch.start + (stretch.end - stretch.start) * part // (stretch.last - stretch.first)


def places_of(segment: Mapping[str, Any]) -> list[tuple[int, int]] | None:
    """Return which characters of a segment's text each of its words is, but for empty ones.

    None where the words are not those of the text.
    """
    words = ["".join(word.split()) for word, *_ in segment["words"]]
    text: str = segment["text"]
    if "".join(words) != "".join(text.split()):
        return None
    places = [place for place, character in enumerate(text) if not character.isspace()]
    found: list[tuple[int, int]] = []
    done = 0
    for word in filter(None, words):
        found.append((places[done], places[done + len(word) - 1] + 1))
        done += len(word)
    return found


def _stretches(segment: Mapping[str, Any]) -> list[Stretch]:
    text: str = segment["text"]
    begin: int = segment["start"]
    end = max(begin, segment["end"])
    places = places_of(segment)
    if not places:
        return [Stretch(0, max(1, len(text)), begin, end)]
    stretches: list[Stretch] = []
    latest = 0
    times = [(start, stop) for word, start, stop, _ in segment["words"] if word.strip()]
    for (first, last), (start, stop) in zip(places, times, strict=True):
        begin = max(latest, start)
        latest = max(begin, stop)
        stretches.append(Stretch(first, last, begin, latest))
    return stretches
