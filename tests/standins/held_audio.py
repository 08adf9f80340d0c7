"""A speech engine that hears nothing, and answers only while the file STANDIN_ENGINE_HELD is not there.

TRUNKLINE_AUDIO_ENGINE=tests.standins.held_audio:create, started from the repository's root.
"""

import asyncio
import os
from pathlib import Path

from tests.standins.instant_audio import InstantEngine

LOOK_SECONDS = 0.05


class HeldEngine(InstantEngine):
    name = "held/standin"

    async def transcribe(self, recording):
        held = Path(os.environ["STANDIN_ENGINE_HELD"])
        while held.exists():
            await asyncio.sleep(LOOK_SECONDS)
        return await super().transcribe(recording)


def create():
    return HeldEngine()
