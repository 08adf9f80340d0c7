"""Numbers that must not be kept, wherever they were read out: found by the suite, whatever engine analyses it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trunkline_words.personal.numbers import find_numbers
from trunkline_words.personal.policy import PLACEHOLDER, PiiKind, kind_of
from trunkline_words.personal.speech import Speech

from trunkline_ai.engines.findings import Compliance, Flag
from trunkline_ai.engines.quotes import Script

_PLACEHOLDER = re.compile(PLACEHOLDER)
_FLAGS = {PiiKind.CARD: Compliance.CARD_NUMBER, PiiKind.SSN: Compliance.SOCIAL_SECURITY_NUMBER}


def numbers_read_out(script: Script) -> tuple[Flag, ...]:
    """The first card number and the first social security number, without their words.

    It takes some 10 ms for a thousand words: long conversations belong in a thread.
    """
    found = {flag.type: flag for flag in reversed(list(_flags(script)))}
    return tuple(found[kind] for kind in Compliance if kind in found)


def _flags(script: Script) -> Iterator[Flag]:
    """Give the numbers that were read out, and those that the transcript has placeholders for, each kind in order."""
    for kind, start, end in sorted((*_numbers(script), *_placeholders(script)), key=lambda one: one[1]):
        yield Flag(kind, script.silent(start, end))


def _numbers(script: Script) -> Iterator[tuple[Compliance, int, int]]:
    for number in find_numbers(Speech(script.transcript.turns)):
        if kind := _FLAGS.get(number.kind):
            first, last = number.places[0], number.places[-1]
            yield kind, script.starts[first.turn] + first.start, script.starts[last.turn] + last.end


def _placeholders(script: Script) -> Iterator[tuple[Compliance, int, int]]:
    for found in _PLACEHOLDER.finditer(script.text):
        if kind := _FLAGS.get(kind_of(found.group())):
            yield kind, *found.span()
