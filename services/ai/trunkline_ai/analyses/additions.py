"""What the suite finds itself in a conversation, whatever engine analysed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trunkline.ai.v1 import analysis_pb2

from trunkline_ai.analyses.dialogue import Dialogue
from trunkline_ai.analyses.keywords import mentions_of
from trunkline_ai.analyses.messages import message_of
from trunkline_ai.engines.base import AnalysisResult
from trunkline_ai.engines.findings import Compliance, Flag
from trunkline_ai.engines.quotes import Script
from trunkline_ai.pii import PiiKind
from trunkline_ai.redaction.numbers import find_numbers
from trunkline_ai.redaction.speech import Speech

_FLAGS = {PiiKind.CARD: Compliance.CARD_NUMBER, PiiKind.SSN: Compliance.SOCIAL_SECURITY_NUMBER}
"""Numbers that must not be kept, wherever they were read out."""


def analysis_of(result: AnalysisResult, conversation: Dialogue) -> analysis_pb2.Analysis:
    """The analysis with the tenant's keywords and the numbers that were read out, without name, call and time."""
    script = Script(conversation.transcript)
    found = result.findings
    numbers = numbers_read_out(script)
    if numbers:
        told = {flag.type for flag in numbers}
        others = tuple(flag for flag in found.compliance if flag.type not in told)
        result = replace(result, findings=replace(found, compliance=(*others, *numbers)))
    return message_of(result, mentions_of(conversation.context.settings.keywords, script))


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
