"""The work of finding personal data grows with the length of what was said, whatever that is."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from trunkline_ai.engines.base import SpeakerRole, Turn
from trunkline_words.personal.finder import find_pii
from trunkline_words.personal.placeholders import Redaction

from tests.contract import adversaries

SHORT = 1_500
UNITS = (
    "1 ", "one ", "at ", "a@", "name is ", "born ", "12 main ", "4242 4242 4242 4242 ", "karen ", "- ", "a b ",
    "Karen Smith ", "at a dot com ", "double ", "1,", "unit 5 at ", "12 a street texas ", "spell a b c ", "a_", "a.",
    "12 a street, texas 12345 ", "dr smith ", "born may 1 ", "plus 1 ", "(1", "po box 1 ", "my name ", "a dot ", "-a ",
    "Mr. ", "visa 4 ", "hi april ", "apartment 1 ", "karen's ", "d o b ", "will king ",
)  # fmt: skip
ROLES = (SpeakerRole.CUSTOMER, SpeakerRole.AGENT)


def _one(unit: str, length: int) -> list[Turn]:
    return [Turn(ROLES[0], unit * (length // len(unit)))]


def _many(text: str, length: int) -> list[Turn]:
    return [Turn(ROLES[i % 2], text) for i in range(length // (len(text) + 1))]


def _lines(turns: list[Turn]) -> int:
    """Count the lines of Python that run: unlike a time, it is the same on every machine."""
    count = 0

    def trace(_frame: Any, event: str, _told: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        find_pii(turns)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("unit", UNITS)
def test_twice_the_words_of_one_turn_are_twice_the_work(unit):
    assert _lines(_one(unit, 2 * SHORT)) < 2.3 * _lines(_one(unit, SHORT))


@pytest.mark.parametrize("text", ["1", "one two", "name", "uh", "4242", ""])
def test_twice_the_turns_are_twice_the_work(text):
    assert _lines(_many(text, 2 * SHORT)) < 2.3 * _lines(_many(text, SHORT))


def test_a_conversation_of_100_000_characters_is_redacted_and_comes_back_whole():
    each = adversaries.LENGTH // len(UNITS)
    said = [turn for unit in UNITS for turn in _one(unit, each)]
    redaction = Redaction(said)
    whole = "\n".join(redaction.texts)
    assert redaction.placeholders
    assert redaction.restored(whole) == "\n".join(turn.text for turn in said)
