"""Numbers that must not be kept, wherever they were read out: found by the suite, whatever engine analyses it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trunkline_ai.engines.findings import Compliance, Flag
from trunkline_ai.engines.local.numbers import DIGIT_WORD, digits
from trunkline_ai.engines.quotes import Script

_FIGURES = rf"(?:{DIGIT_WORD}|\d++)(?!\w)"
_READ_OUT = re.compile(
    rf"(?<![\w$]){_FIGURES}(?:[\s,.-]{{1,3}}(?:(?:uh|um)[\s,]{{1,2}})?{_FIGURES})*+",
    re.IGNORECASE,
)
"""A run of figures, written or spoken, also over two turns."""
_CARD_LENGTHS = range(13, 20)
_USUAL_LENGTH = 16
_CARD_STARTS = ("2", "3", "4", "5", "6")
_SOCIAL = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_SOCIAL_NAMED = re.compile(r"\b(?:social(?:\ssecurity)?(?:\snumber)?|s\.?s\.?n)\b", re.IGNORECASE)
_NEAR = 120


def numbers_read_out(script: Script) -> tuple[Flag, ...]:
    """The first card number and the first social security number, without their words."""
    found = {flag.type: flag for flag in reversed(list(_flags(script)))}
    return tuple(found[kind] for kind in Compliance if kind in found)


def _flags(script: Script) -> Iterator[Flag]:
    text = script.text
    for match in _SOCIAL.finditer(text):
        yield Flag(Compliance.SOCIAL_SECURITY_NUMBER, script.silent(*match.span()))
    for match in _READ_OUT.finditer(text):
        figures = digits(match.group())
        if is_card(figures):
            yield Flag(Compliance.CARD_NUMBER, script.silent(*match.span()))
        elif len(figures) == 9:
            before = text[max(0, match.start() - _NEAR) : match.start()]
            if _SOCIAL_NAMED.search(before):
                yield Flag(Compliance.SOCIAL_SECURITY_NUMBER, script.silent(*match.span()))


def is_card(figures: str) -> bool:
    """Whether figures are, or begin with, a payment card's number: its length, its first figure, and Luhn's check.

    An expiry date is often read out right after it.
    """
    if len(figures) > _USUAL_LENGTH:
        amex = figures.startswith(("34", "37"))
        return _is_number(figures) or _is_number(figures[: _USUAL_LENGTH - amex])
    return _is_number(figures)


def _is_number(figures: str) -> bool:
    if len(figures) not in _CARD_LENGTHS or figures[0] not in _CARD_STARTS:
        return False
    total = 0
    for place, figure in enumerate(reversed(figures)):
        value = int(figure) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
