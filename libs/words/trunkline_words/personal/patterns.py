"""Email addresses, street addresses, and people, by patterns over one turn; the words' readers find more of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import NamedTuple

from trunkline_words import numbers
from trunkline_words.patterns import WordPatterns, found_with
from trunkline_words.personal.speech import word_lists
from trunkline_words.written import Written

_STREET = (
    "(?=[a-dghlprstw][a-z])(?:street|st|avenue|ave|road|rd|drive|dr|lane|ln|court|ct|boulevard|blvd|way|place|pl|circle|"
    "cir|terrace|parkway|pkwy|trail|highway|hwy|loop|square|bend|grove|alley|ridge|crossing|run|point)"
)
_HOUSE = rf"(?:\d{{1,5}}|{numbers.NUMBER})"
# What is counted, and words of a sentence: `15 minutes down the road` is no address.
COUNTED = (
    "year", "month", "week", "day", "hour", "minute", "mile", "block", "yard", "acre", "gallon", "bedroom",
    "bathroom", "room", "dollar", "star", "ton",
)  # fmt: skip
NO_NAMES = (
    "inch", "inches", "feet", "foot", "story", "stories", "people", "kids", "times", "percent", "bucks", "am", "pm",
    "the", "a", "an", "my", "your", "our", "his", "her", "their", "this", "that", "in", "on", "of", "at", "to", "from",
    "for", "by", "with", "and", "or", "is", "are", "was", "were", "down", "up", "away", "off", "per", "more", "other",
    "different",
)  # fmt: skip
_NOT_OF_A_STREET = (
    rf"(?!(?=[a-z]){numbers.one_of([*COUNTED, *(f'{word}s' for word in COUNTED), *NO_NAMES])}\b)"
)
_WORD = rf"{_NOT_OF_A_STREET}[a-z0-9][a-z0-9'-]*+\s++"
_NAMED_STREET = (
    r"(?:(?=[nsew])(?:north|south|east|west|[nsew]\.?)\s++)?(?:st\.\s++)?(?!\d++\s)"
    rf"{_WORD}(?:{_STREET}|{_WORD}(?:{_STREET}|{_WORD}{_STREET}))\b"
)
_ADDRESS = re.compile(
    rf"(?P<entity>\b{_HOUSE},?\s++{_NAMED_STREET})|\b{numbers.NUMBER}(?!\w)",  # as with amounts
    re.IGNORECASE,
)
_TOLD_ADDRESS = re.compile(
    rf"(?:address is|i'?m at|i am at|live at|we'?re at|we are at|house at|place is)\s++"
    rf"(?P<entity>{_HOUSE},?\s++{_NOT_OF_A_STREET}[a-z]+(?:\s[A-Z][a-z]+)?)",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"(?<![\w.+-])[.+-]*+(?P<entity>\w[\w.+-]*+@[\w-]++(?:\.[\w-]+)+)\b")
_SPOKEN_EMAIL = re.compile(
    r"\b\w++(?:\s(?:dot|underscore)\s\w++){0,6}\sat\s(?:\w++\s){1,3}?dot\s(?:com|net|org|edu|us|co)\b|"
    r"(?<![\w.+-])\w[\w.+-]*+\sat\s[\w-]++\.(?:com|net|org|edu|us|co)\b",
    re.IGNORECASE,
)
_TITLE = r"(?P<title>(?:mr|mrs|ms|dr)\.?\s++)?"
_NAMED = re.compile(
    rf"(?:\bmy name'?s|\bmy name is|\bname'?s|\bname is|\blast name is|\blast name'?s)\s++{_TITLE}"
    r"(?P<entity>[a-z][a-z'-]+(?:\s[a-z][a-z'-]+)?)",
    re.IGNORECASE,
)
_INTRODUCED = re.compile(
    r"(?:\b(?:this is|it'?s|it is|i'?m|i am|here'?s|speaking with)|^(?:hi|hey|hello))\s++"
    rf"{_TITLE}"
    r"(?P<entity>[a-z][a-z'-]+(?:\s[a-z][a-z'-]+)?)",
    re.IGNORECASE | re.MULTILINE,
)
_DOT = re.compile(r"\sdot\s")
_UNDERSCORE = re.compile(r"\sunderscore\s")
_DOMAINS = ("dot", ".com", ".net", ".org", ".edu", ".us", ".co")
_BEFORE_ADDRESSES = ("address is", "m at", "live at", "re at", "house at", "place is")
_ADDRESSES = WordPatterns(_ADDRESS)
_PEOPLE = WordPatterns(_NAMED, _INTRODUCED)
_NOT_A_NAME = word_lists("patterns")["not_a_name"]
FIRST_NAMES = frozenset(
    (resources.files("trunkline_words.personal") / "data" / "first_names.txt")
    .read_text(encoding="utf-8")
    .split()
)


class Named(NamedTuple):
    """A find in one turn, as it was said and in its normal form; offsets count in the turn's text."""

    text: str
    value: str
    start: int
    end: int


def emails(said: str, text: Written) -> Iterator[Named]:
    """Give the email addresses in `text`, in the wording of `said`, which is of the same length."""
    for found in (found_with(_EMAIL, text, "@"), found_with(_SPOKEN_EMAIL, text, *_DOMAINS)):
        for match in found:
            start, end = match.span("entity" if "entity" in match.re.groupindex else 0)
            yield Named(said[start:end], _email_value(text[start:end]), start, end)


def addresses(said: str, text: Written) -> Iterator[Named]:
    """Give the street addresses, as `emails` does."""
    (by_words,) = _ADDRESSES.find(text)
    for found in (by_words, found_with(_TOLD_ADDRESS, text, *_BEFORE_ADDRESSES)):
        for match in found:
            start, end = match.span("entity")
            if start >= 0:  # otherwise it is what the pattern passes over
                yield Named(said[start:end], text[start:end], start, end)


def people(said: str, text: Written) -> Iterator[Named]:
    """Give the names of people, as `emails` does."""
    named, introduced = _PEOPLE.find(text)
    yield from _people(said, text, named, surely=True)
    yield from _people(said, text, introduced, surely=False)


def _people(said: str, text: str, matches: Iterable[re.Match[str]], *, surely: bool) -> Iterator[Named]:
    for match in matches:
        told = surely or bool(match.group("title"))
        kept: list[str] = []
        for word in match.group("entity").split():
            believable = _continues(kept[0], word, text, told) if kept else told or _is_first_name(word)
            if word.lower() in _NOT_A_NAME or not believable:
                break
            kept.append(word)
        if kept:
            start = match.start("entity")
            end = start + len(" ".join(kept))
            name = said[start:end]
            yield Named(name, name.title() if name.islower() else name, start, end)


def _continues(first: str, word: str, text: str, told: bool) -> bool:
    """Whether a word is of the name that begins with `first`: where that has a capital, it has one too."""
    if first[0].isupper():
        return word[0].isupper()
    return told or _is_first_name(word) or text.islower()


def _is_first_name(word: str) -> bool:
    return word.lower() in FIRST_NAMES


def _email_value(text: str) -> str:
    if "@" in text:
        return text.lower()
    spoken = _DOT.sub(".", text.lower())
    name, _, domain = _UNDERSCORE.sub("_", spoken).partition(" at ")
    return f"{name}@{domain.replace(' ', '')}"
