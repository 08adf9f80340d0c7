"""A speech engine that hears a card's number, a telephone number, and a name in every recording, whatever it holds.

TRUNKLINE_AUDIO_ENGINE=tests.standins.reading_audio:create, started from the repository's root. It goes on turn by turn,
and keeps what it finishes, as Whisper does. While the file named by STANDIN_ENGINE_HELD is there, it stops before the
last turn of a recording that takes longer than a minute.
"""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from trunkline_audio.engines.base import EngineResult, Segment, Word

from tests.standins.instant_audio import InstantEngine

AGENT, CUSTOMER = 0, 1
TURNS = (
    (AGENT, "Pine Hollow Heating, this is Rosalind. How can I help you?"),
    (CUSTOMER, "My name is Bartholomew Quigley, and I need a new furnace. How much would that cost?"),
    (AGENT, "We can send you a quote. Where can I reach you?"),
    (CUSTOMER, "Call me on (503) 555-0127, please. And the deposit goes on my card, 4024 0071"),
    (AGENT, "Uh-huh."),
    (CUSTOMER, "two three four five, one two three eight. Thank you."),
)
SECRETS = (
    "Rosalind", "Bartholomew", "Quigley", "555-0127", "5550127", "4024 0071", "4024007123451238", "two three four five",
)  # fmt: skip
"""No file of a suite whose tenant wants placeholders holds one of these."""


class ReadingEngine(InstantEngine):
    name = "reading/standin"

    def __init__(self, held):
        super().__init__()
        self.held = held

    async def transcribe(self, recording):
        found = await recording.checkpoints.found()
        segments = []
        for number, (lane, text) in enumerate(TURNS):
            last = number == len(TURNS) - 1
            while last and recording.seconds > 60 and self.held.exists():
                await asyncio.sleep(0.05)
            heard = segment(number, lane, found.get(f"turn-{number}", text))
            segments.append(heard)
            recording.checkpoints.keep(f"turn-{number}", text, [heard], 2)
            recording.checkpoints.reach(recording.seconds * (number + 1) / len(TURNS))
        whole = EngineResult(self.name, "en", tuple(segments), lanes=2)
        return replace(whole, speech_seconds=float(len(TURNS)))


def segment(number, lane, text):
    words = text.split()
    times = [(number + at / 50, number + (at + 1) / 50) for at in range(len(words))]
    said = tuple(Word(word, *when, 0.9) for word, when in zip(words, times, strict=True))
    return Segment(lane, 0, float(number), times[-1][1], text, said)


def create():
    return ReadingEngine(Path(os.environ.get("STANDIN_ENGINE_HELD", "/nowhere")))
