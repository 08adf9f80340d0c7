"""Numbers as they are spoken: `two fifteen`, `three hundred and fifty`, `five five five oh one nine eight`."""

import re
from collections.abc import Iterable

_UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15,
    "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
DIGITS = {word: str(value) for word, value in _UNITS.items() if value < 10} | {"oh": "0", "o": "0"}
"""What each spoken digit is in figures."""

_WORDS = {value: word for word, value in (_UNITS | _TENS).items()}


def one_of(words: Iterable[str]) -> str:
    """An expression of one of these words, the longest that is there; others are passed over at the first letter."""
    ends: dict[str, list[str]] = {}
    for word in sorted(words, key=len, reverse=True):
        ends.setdefault(word[0], []).append(word[1:])
    return "(?:" + "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in ends.items()) + ")"


NUMBER_WORDS = frozenset({*_UNITS, *_TENS, *_SCALES})
NUMBER_WORD = one_of(NUMBER_WORDS)
"""Expression of one spoken number word."""
NUMBER = rf"(?>{NUMBER_WORD}(?:(?:[\s-]++|(?<=hundred)\sand\s)(?:oh\s++)?{NUMBER_WORD}){{0,7}})"
"""Expression of a spoken number of up to eight words, as many as there are."""
DIGIT_WORD = rf"(?:{one_of(DIGITS)}|\d)"
"""Expression of one spoken digit."""
_WORD = re.compile(r"\w++")
_LETTERS = re.compile("[a-z]++")


def digits(text: str) -> str:
    """The digits of `five five five, oh one nine 8`, everything else left out."""
    return "".join(DIGITS.get(word, word if word.isdigit() else "") for word in _WORD.findall(text.lower()))


def spelt(number: int) -> str:
    """The words of a whole number from 0 to 99, without a hyphen."""
    if number in _WORDS:
        return _WORDS[number]
    return f"{_WORDS[number - number % 10]} {_WORDS[number % 10]}"


def value(text: str) -> int:
    """The value of a spoken number; `two fifteen` and `twelve hundred` read as in prices (215, 1200)."""
    total, group = 0, 0
    for word in _LETTERS.findall(text.lower()):
        if word in _SCALES:
            scale = _SCALES[word]
            group = max(group, 1) * scale
            if scale > 100:
                total, group = total + group, 0
        elif word in _TENS or word in _UNITS:
            number = _TENS.get(word, _UNITS.get(word, 0))
            if 0 < group < 10 and number >= 10:
                group *= 100  # "two fifty" is 250
            elif group and group % 100 == 0:
                pass
            elif group % 100 >= 20 and group % 10 == 0 and number < 10:
                pass  # "forty five"
            elif group:
                group *= 100  # "nineteen fifty"
            group += number
    return total + group
