"""An engine for pipeline load tests: answers at once with an empty transcript, and says so by its name.

TRUNKLINE_AUDIO_ENGINE=instant_audio:create with this folder on PYTHONPATH. Nothing is decoded or heard.
"""

from trunkline_audio.engines.base import EngineResult


class InstantEngine:
    name = "instant/standin"
    ready = True

    def start(self):
        pass

    async def transcribe(self, source, language):
        return EngineResult(language=language, lanes=min(2, source.channels))

    async def close(self):
        pass


def create(workers=0):
    return InstantEngine()
