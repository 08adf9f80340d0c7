"""An engine for pipeline load tests: answers at once with an empty transcript, and says so by its name.

TRUNKLINE_AUDIO_ENGINE=tests.standins.instant_audio:create, started from the repository's root. Nothing is
decoded or heard; with `create_decoding` nothing is heard.
"""

import asyncio

from trunkline_audio.engines.base import EngineResult, SpeechCapabilities


class InstantEngine:
    name = "instant/standin"
    problem = ""
    capabilities = SpeechCapabilities()

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def transcribe(self, recording):
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return EngineResult(self.name, recording.language, lanes=min(2, recording.channels))


class DecodingEngine(InstantEngine):
    name = "decoding/standin"

    async def transcribe(self, recording):
        async with recording.prepared():
            return await super().transcribe(recording)


def create():
    return InstantEngine()


def create_decoding():
    """Have every recording decoded to the scratch folder, as an engine that listens does."""
    return DecodingEngine()


def create_50ms():
    """Take 50 ms of time and nothing else."""
    return InstantEngine(0.05)
