"""Texts that make a regular expression with a wrong turn in it slow: some for all, some made of its own parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

LENGTH = 100_000

# What strangers sent, and what is between words, digits and separators in every language of patterns.
_UNITS = (
    "a", "A", "1", " ", "\n", "\t", ".", "@", "=", ":", "-", "_", "/", "+", "%", "$", '"', "\\", "'", "é",
    "1,", "1.", "1 ", "1-", "1:", "1/", "a.", "a@", "a-", "a ", "a.a@", "a@a.", "a+", "a_", "a'", "a=", "a:", "A ",
    ". ", "one ", "one-", "one hundred ", "oh five ", "fifty ", "1 a ", "12 main ", "a dot ", "a underscore ",
    "a at ", "name is a ", "i am ", "at one ", "next monday ", "secret", "token", "key-", "_key", "tl_", "eyJ",
    "eyJa.", "Bearer ", "://a", "://a@", "(555) ", "555-", "+1 ", "%2F", "[]", "[1]", "\\a", "tenants/",
)  # fmt: skip
_ENDS = ("", "=", "!", "\0")
_FEW = 3


class Recipe(NamedTuple):
    """How a text is made: what leads, a unit again and again, and what ends it."""

    lead: str
    unit: str
    end: str = ""

    def text(self, pattern: re.Pattern[Any], length: int = LENGTH) -> Any:
        """Make it, of about this length, in the pattern's own type."""
        made = self.lead + self.unit * (length // len(self.unit)) + self.end
        return made.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else made


def recipes(pattern: re.Pattern[Any]) -> set[Recipe]:
    """Give the common ones, and those that pump what the pattern repeats behind what leads there."""
    made = {Recipe("", unit, end) for unit in _UNITS for end in _ENDS[:2]}
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    for lead, pumps in _repeats(parser.parse(source, pattern.flags & ~re.UNICODE & ~re.DEBUG), ""):
        for pump in filter(None, pumps):
            made |= {Recipe(lead, pump, end) for end in _ENDS}
            made.add(Recipe("", lead + pump))
    return made


def _repeats(tree: Any, lead: str) -> Iterator[tuple[str, list[str]]]:
    """Give each repetition in a pattern: a text that leads to it, and texts that it takes once."""
    for op, value in tree:
        if op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            _, most, inner = value
            if most > 1:
                yield lead, _samples(inner)
            yield from _repeats(inner, lead)
        else:
            for inner in _inside(op, value):
                yield from _repeats(inner, lead)
        lead += next(iter(_samples([(op, value)])), "")


def _inside(op: Any, value: Any) -> list[Any]:
    if op is codes.SUBPATTERN:
        return [value[3]]
    if op is codes.BRANCH:
        return list(value[1])
    if op in (codes.ASSERT, codes.ASSERT_NOT):
        return [value[1]]
    return [value] if op is codes.ATOMIC_GROUP else []


def _samples(tree: Any) -> list[str]:
    """A few texts that a part of a pattern takes."""
    made = [""]
    for op, value in tree:
        made = [before + after for before in made[:_FEW] for after in _of(op, value)]
    return made


def _of(op: Any, value: Any) -> list[str]:
    if op is codes.LITERAL:
        return [chr(value)]
    if op is codes.NOT_LITERAL:
        return ["a" if value != ord("a") else "b"]
    if op is codes.ANY:
        return ["a", " "]
    if op is codes.IN:
        return _class(value)
    if op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        return [one * max(1, value[0]) for one in _samples(value[2])]
    if op is codes.BRANCH:
        return [text for branch in value[1][: 2 * _FEW] for text in _samples(branch)]
    if op is codes.SUBPATTERN:
        return _samples(value[3])
    return _samples(value) if op is codes.ATOMIC_GROUP else [""]


_CATEGORIES = {
    codes.CATEGORY_DIGIT: "1", codes.CATEGORY_SPACE: " ", codes.CATEGORY_WORD: "a",
    codes.CATEGORY_NOT_DIGIT: "a", codes.CATEGORY_NOT_SPACE: "a", codes.CATEGORY_NOT_WORD: " ",
}  # fmt: skip


def _class(parts: Any) -> list[str]:
    """One character for each part of a class."""
    if parts[0][0] is codes.NEGATE:
        return [c for c in "a1 .-" if not any(_has(part, c) for part in parts[1:])] or ["\x01"]
    found = []
    for op, value in parts:
        if op is codes.LITERAL:
            found.append(chr(value))
        elif op is codes.RANGE:
            found.append(chr(value[0]))
        elif op is codes.CATEGORY:
            found.append(_CATEGORIES[value])
    return found


def _has(part: tuple[Any, Any], character: str) -> bool:
    op, value = part
    if op is codes.LITERAL:
        return chr(value) == character
    if op is codes.RANGE:
        return value[0] <= ord(character) <= value[1]
    return _CATEGORIES[value] == character
