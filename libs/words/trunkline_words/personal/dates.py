"""Dates of birth: a date where somebody speaks of being born. Other dates are left alone."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline_words import numbers
from trunkline_words.calendar import MONTHS, ORDINALS, SHORT_MONTHS
from trunkline_words.personal.speech import Speech, word_lists

_WORDS = word_lists("dates")
_CUES = frozenset({"born", "birthday", "birthdate", "birthday's", "dob", "birth", "birthdays"})
_MONTHS = frozenset((*MONTHS, *SHORT_MONTHS))
_ORDINALS = frozenset(ORDINALS)
_GLUE = _WORDS["glue"]
_NUMBERS = numbers.NUMBER_WORDS | frozenset(numbers.DIGITS)
_AHEAD = 14
_ANSWER = 8
_MOST_WORDS = 16


def find_birth_dates(speech: Speech) -> Iterator[tuple[int, int]]:
    """Give the first word of each and the index behind its last word."""
    seen = -1
    for index, word in enumerate(speech.words):
        if word.text not in _CUES and not _spelt(speech, index):
            continue
        for first, most in _where(speech, index):
            found = _date(speech, max(first, seen), most)
            if found is not None:
                yield found
                seen = found[1]
                break


def _spelt(speech: Speech, index: int) -> bool:
    """Tell whether `d.o.b.` or `d o b` begins here."""
    if speech.text(index) != "d":
        return False
    letters = [speech.text(i) for i in range(index, index + 6) if speech.text(i) != "."][:3]
    return letters == ["d", "o", "b"]


def _where(speech: Speech, cue: int) -> Iterator[tuple[int, int]]:
    """Give where a date may stand: behind the cue in its turn, at the start of the next two turns, before the cue."""
    end = speech.end_of_turn(cue)
    yield cue + 1, min(end, cue + 1 + _AHEAD)
    turn = speech.words[cue].turn
    for later in (turn + 1, turn + 2):
        if later < len(speech.turns):
            first = speech.firsts[later]
            yield first, min(speech.firsts[later + 1], first + _ANSWER)
    if speech.words[cue].text != "born":
        yield max(speech.firsts[turn], cue - 8), cue  # `May 17, 1988 is her birthday`


def _date(speech: Speech, first: int, most: int) -> tuple[int, int] | None:
    """Return the first date that begins within the words from `first` up to `most`."""
    index = first
    while index < most:
        if not _is_part(speech, index):
            index += 1
            continue
        end = index
        last = index
        limit = min(speech.end_of_turn(index), index + _MOST_WORDS)
        while end < limit and (_is_part(speech, end) or speech.words[end].text in _GLUE):
            if _is_part(speech, end):
                last = end
            elif speech.words[end].text in (".", ",") and end - last > 1:
                break
            end += 1
        if _whole(speech, index, last + 1):
            return index, last + 1
        index = last + 1
    return None


def _is_part(speech: Speech, index: int) -> bool:
    text = speech.words[index].text
    return text in _MONTHS or text in _ORDINALS or text in _NUMBERS or _figure(text)


def _figure(text: str) -> bool:
    plain = text[:-2] if text[-2:] in ("st", "nd", "rd", "th") else text
    return plain.isdecimal() and len(plain) <= 8


def _whole(speech: Speech, first: int, end: int) -> bool:
    """Tell whether words make a date, and no age or count: a month and more, or month, day, and year in figures."""
    parts = [speech.words[i].text for i in range(first, end) if _is_part(speech, i)]
    if any(part in _MONTHS for part in parts):
        return len(parts) >= 2
    figures = [part for part in parts if _figure(part)]
    spoken = [part for part in parts if part in _NUMBERS or part in _ORDINALS]
    if len(figures) >= 3 or any(len(part) in (6, 8) for part in figures):
        return True
    return len(spoken) >= 4 or (bool(spoken) and any(len(part) == 4 for part in figures) and len(parts) >= 3)
