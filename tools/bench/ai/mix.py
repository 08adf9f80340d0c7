"""The conversations of one tenant, for a hit rate: what is said anew, and what is said again.

| how many | what |
|---|---|
| 541 | the labelled transcripts, each once |
| 50 | of these once more: the same recording under another call |
| 100 | replies by text message, of 12 different ones |
| 60 | spam by web form, of 6 different texts |
| 120 | robocalls, 8 scripts read 15 times, of which a recogniser mishears one word in 50 |
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trunkline_ai.engines.base import Context, SpeakerRole, Transcript, Turn

_DATA = Path("tests/data/analysis")
_FILES = ("dev.jsonl", "heldout.jsonl")
_REPLIES = (
    "Yes", "No", "STOP", "Thanks!", "ok", "Yes please", "Thank you", "C", "See you then", "On my way", "Call me",
    "Confirm",
)  # fmt: skip
_AGAIN, _BY_TEXT, _FORMS, _FORM_TURNS, _SCRIPTS, _SCRIPT_TURNS = 50, 100, 6, 10, 8, 15
_MISHEARD = 50
_LEAST_SCRIPT_WORDS = 20


@dataclass(frozen=True)
class Labelled:
    """A labelled transcript: its turns a line each, with A: and C: before them."""

    text: str
    intent: str


@dataclass(frozen=True)
class Said:
    """A conversation as engines get it."""

    transcript: Transcript
    context: Context


@cache
def labelled() -> tuple[Labelled, ...]:
    """The labelled transcripts of the evaluation."""
    lines = [line for name in _FILES for line in (_DATA / name).read_text(encoding="utf-8").splitlines()]
    facts = [json.loads(line) for line in lines]
    return tuple(Labelled(one["text"], one["intent"]) for one in facts)


def mix(seed: int = 1) -> list[Said]:
    """The conversations, in an order of no meaning."""
    rng = random.Random(seed)
    calls = [one.text for one in labelled()]
    scripts = [
        one.text
        for one in labelled()
        if one.intent == "robocall" and len(one.text.split()) >= _LEAST_SCRIPT_WORDS
    ]
    made = [_call(text) for text in (*calls, *rng.sample(calls, _AGAIN))]
    made += [_message(rng.choice(_REPLIES)) for _ in range(_BY_TEXT)]
    made += [
        _message(
            f"We build backlinks for your site, offer {number}. Reply to rank on page one of every search!"
        )
        for number in range(_FORMS)
        for _ in range(_FORM_TURNS)
    ]
    made += [
        _call(_misheard(text, rng)) for text in rng.sample(scripts, _SCRIPTS) for _ in range(_SCRIPT_TURNS)
    ]
    rng.shuffle(made)
    return [
        Said(
            one.transcript, Context(**{**vars(one.context), "tenant_id": "acme", "call_id": f"call-{number}"})
        )
        for number, one in enumerate(made)
    ]


def _call(text: str) -> Said:
    turns = []
    for line in text.split("\n"):
        mark, _, words = line.partition(": ")
        turns.append(Turn(SpeakerRole.AGENT if mark == "A" else SpeakerRole.CUSTOMER, words))
    return Said(Transcript(tuple(turns)), Context(language="en"))


def _message(text: str) -> Said:
    return Said(Transcript((Turn(SpeakerRole.CUSTOMER, text),)), Context(message=True))


def _misheard(text: str, rng: random.Random) -> str:
    lines = [line.split(" ") for line in text.split("\n")]
    for line in lines:
        for at in range(1, len(line)):
            if rng.randrange(_MISHEARD) == 0:
                line[at] = rng.choice(("the", "a", "an", "and", "your"))
    return "\n".join(" ".join(line) for line in lines)
