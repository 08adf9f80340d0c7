"""A language engine that is down as long as the file named by STANDIN_ENGINE_DOWN is there.

TRUNKLINE_AI_ENGINE=tests.standins.failing_ai:create, started from the repository's root.
"""

import os
from pathlib import Path

from trunkline_runtime.engines.base import NOT_READY, EngineError

from tests.standins.instant_ai import InstantEngine


class FailingEngine(InstantEngine):
    name = "failing/standin"

    def __init__(self, down):
        super().__init__()
        self.down = down

    @property
    def problem(self):
        return "the engine is down" if self.down.exists() else ""

    async def analyze(self, transcript, context):
        if self.problem:
            raise EngineError(NOT_READY, self.problem, transient=True)
        return await super().analyze(transcript, context)


def create():
    return FailingEngine(Path(os.environ["STANDIN_ENGINE_DOWN"]))
