"""An engine for pipeline load tests: answers at once with an empty transcript, and says so by its name.

TRUNKLINE_AUDIO_ENGINE=tests.standins.instant_audio:create, started from the repository's root. Nothing is
decoded or heard.
"""

import asyncio

from trunkline_audio.engines.base import EngineResult


class InstantEngine:
    name = "instant/standin"
    ready = True

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def start(self):
        pass

    async def transcribe(self, source, language):
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return EngineResult(language=language, lanes=min(2, source.channels))

    async def close(self):
        pass


def create(config):
    return InstantEngine()


def create_50ms(config):
    """Take 50 ms of time and nothing else."""
    return InstantEngine(0.05)
