"""A speech engine that goes through a recording window by window: each second of it is one, with one word.

TRUNKLINE_AUDIO_ENGINE=tests.standins.window_audio:create, started from the repository's root. What it finishes it
keeps, as Whisper does. With STANDIN_WINDOW_SECONDS, each window takes as long.
"""

import asyncio
import math
import os

from trunkline_audio.engines.base import EngineResult, Segment, Word

from tests.standins.instant_audio import InstantEngine


class WindowEngine(InstantEngine):
    name = "window/standin"

    def __init__(self, seconds=0.0):
        super().__init__(seconds)
        self.listened = []
        """The windows that were listened to, and not taken up."""
        self.open = asyncio.Semaphore(0)
        """Each window takes one of these, unless windows take time."""
        self.under_way = 0
        """The recordings that it goes through now."""

    async def transcribe(self, recording):
        self.under_way += 1
        try:
            return await self.gone_through(recording)
        finally:
            self.under_way -= 1

    async def gone_through(self, recording):
        found = await recording.checkpoints.found()
        segments = []
        for number in range(math.ceil(recording.seconds)):
            text = found.get(f"window-{number}") or await self.heard(recording, number)
            segments.append(segment(number, text))
            recording.checkpoints.reach(number + 1)
        return EngineResult(self.name, "en", tuple(segments), speech_seconds=recording.seconds)

    async def heard(self, recording, number):
        await (asyncio.sleep(self.seconds) if self.seconds else self.open.acquire())
        self.listened.append(number)
        text = f"word-{number}"
        recording.checkpoints.keep(f"window-{number}", text, [segment(number, text)])
        return text


def segment(number, text):
    times = (float(number), number + 1.0)
    return Segment(0, 0, *times, text, (Word(text, *times, 0.9),))


def create():
    return WindowEngine(float(os.environ.get("STANDIN_WINDOW_SECONDS", "0.05")))
