"""Numbers that must not be kept, wherever they were read out: found by the suite, whatever engine analyses it."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline_ai.engines.findings import Compliance, Flag
from trunkline_ai.engines.quotes import Script
from trunkline_ai.pii import PiiKind
from trunkline_ai.redaction.numbers import find_numbers
from trunkline_ai.redaction.speech import Speech

_FLAGS = {PiiKind.CARD: Compliance.CARD_NUMBER, PiiKind.SSN: Compliance.SOCIAL_SECURITY_NUMBER}


def numbers_read_out(script: Script) -> tuple[Flag, ...]:
    """The first card number and the first social security number, without their words."""
    found = {flag.type: flag for flag in reversed(list(_flags(script)))}
    return tuple(found[kind] for kind in Compliance if kind in found)


def _flags(script: Script) -> Iterator[Flag]:
    for number in find_numbers(Speech(script.transcript.turns)):
        if kind := _FLAGS.get(number.kind):
            first, last = number.places[0], number.places[-1]
            start, end = script.starts[first.turn] + first.start, script.starts[last.turn] + last.end
            yield Flag(kind, script.silent(start, end))
