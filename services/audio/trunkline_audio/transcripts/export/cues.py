"""Cuts a transcript into subtitles: two lines of 42 columns at most, between words, in order of time."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from trunkline_audio.transcripts.rows import Transcript
from trunkline_audio.transcripts.speakers import labels
from trunkline_audio.transcripts.words import Timing

COLUMNS = 42
"""Of a line; a wide character (Chinese, Japanese, Korean) takes two."""
MOST_SECONDS = 7
LEAST_SECONDS = 1
"""A shorter one stays so long, unless the next one comes sooner."""
PAUSE_SECONDS = 1.5
"""What follows a longer pause is a subtitle of its own."""
_MICROSECONDS = 1_000_000
_SENTENCE_ENDS = tuple(".?!…。？！")
_CLAUSE_ENDS = tuple(",;:–—、，；：")


@dataclass(frozen=True, slots=True)
class Subtitle:
    """One subtitle; times in milliseconds, the end after the start."""

    start: int
    end: int
    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is not cut: a word, or a part of one that is wider than a line."""

    text: str
    width: int
    space: int
    """1 where a space stands before it."""
    start: int
    end: int


def cues(transcript: Transcript, reserve: Callable[[str], int] = lambda label: 0) -> list[Subtitle]:
    """Return the subtitles. `reserve` says how many columns a speaker's label takes of the first line."""
    found = [
        cue
        for segment, label in zip(transcript.segments, labels(transcript), strict=True)
        for cue in _cues(segment, label, reserve(label))
    ]
    found.sort(key=lambda cue: cue.start)  # stable: those of a segment stay in order
    return [_lasting(cue, found[index + 1 :][:1]) for index, cue in enumerate(found)]


def _lasting(cue: Subtitle, following: Sequence[Subtitle]) -> Subtitle:
    """Return a subtitle that can be read, as far as there is room for it."""
    least = cue.start + LEAST_SECONDS * 1_000
    if following:
        least = min(least, following[0].start)
    return replace(cue, end=max(cue.end, least, cue.start + 1))


def _cues(segment: Mapping[str, Any], label: str, reserved: int) -> Iterator[Subtitle]:
    units = list(_units(segment, COLUMNS - reserved))
    begin = 0
    while begin < len(units):
        end = _end(units, begin, reserved)
        part = units[begin:end]
        yield Subtitle(part[0].start // 1_000, part[-1].end // 1_000, label, _lines(part, reserved))
        begin = end


def _units(segment: Mapping[str, Any], columns: int) -> Iterator[_Unit]:
    text: str = segment["text"]
    timing = Timing(segment)
    breaks = [stretch.first for stretch in timing.stretches]
    place = 0
    for word in text.split():
        first = text.index(word, place)
        place = first + len(word)
        space = 1
        for start, end in _parts(text, first, place, breaks, columns):
            part = text[start:end]
            yield _Unit(part, width(part), space, timing.start(start), timing.end(end))
            space = 0


def _parts(
    text: str, first: int, last: int, breaks: Sequence[int], columns: int
) -> Iterator[tuple[int, int]]:
    """Yield where a word is cut that is wider than a line: between what the engine calls words, else anywhere."""
    if width(text[first:last]) <= columns:
        yield first, last
        return
    inside = [first, *breaks[bisect_right(breaks, first) : bisect_left(breaks, last)], last]
    for start, end in pairwise(inside):
        begin, wide = start, 0
        for place in range(start, end):
            columns_more = width(text[place])
            if wide + columns_more > columns:
                yield begin, place
                begin, wide = place, 0
            wide += columns_more
        yield begin, end


def _end(units: Sequence[_Unit], begin: int, reserved: int) -> int:
    """Return where the subtitle ends that begins with a unit: as full as it may be, then back to a good place."""
    line, wide = 0, units[begin].width + reserved
    latest = units[begin].start + MOST_SECONDS * _MICROSECONDS
    for place in range(begin + 1, len(units)):
        unit = units[place]
        if unit.start - units[place - 1].end > PAUSE_SECONDS * _MICROSECONDS:
            return place
        wide += unit.space + unit.width
        if wide > COLUMNS:
            line, wide = line + 1, unit.width
        if line == 2 or unit.end > latest:
            return _good_place(units, begin, place)
    return len(units)


def _good_place(units: Sequence[_Unit], begin: int, end: int) -> int:
    middle = begin + (end - begin + 1) // 2
    for ends in (_SENTENCE_ENDS, _CLAUSE_ENDS):
        for place in range(end, middle, -1):
            if units[place - 1].text.endswith(ends):
                return place
    return end


def _lines(units: Sequence[_Unit], reserved: int) -> tuple[str, ...]:
    """Return one line, or the two of the most equal widths."""
    whole = sum(unit.width + unit.space for unit in units) - units[0].space
    if whole + reserved <= COLUMNS:
        return (_joined(units),)
    best, difference, first = 0, COLUMNS + 1, -units[0].space
    for place in range(1, len(units)):
        first += units[place - 1].width + units[place - 1].space
        second = whole - first - units[place].space
        if first + reserved <= COLUMNS >= second and abs(first + reserved - second) < difference:
            best, difference = place, abs(first + reserved - second)
    return _joined(units[:best]), _joined(units[best:])


def _joined(units: Sequence[_Unit]) -> str:
    return "".join(" " * unit.space + unit.text for unit in units).strip()


def width(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
