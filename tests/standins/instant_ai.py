"""An engine for pipeline load tests: answers at once that it looked at nothing, and says so by its name.

TRUNKLINE_AI_ENGINE=tests.standins.instant_ai:create, started from the repository's root.
"""

import asyncio

from trunkline_ai.engines.base import AnalysisResult, LanguageCapabilities
from trunkline_ai.engines.labels import Intent, LeadLevel, Sentiment


class InstantEngine:
    name = "instant/standin"
    problem = ""
    capabilities = LanguageCapabilities()

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def analyze(self, transcript, context):
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return AnalysisResult(
            intent=Intent.OTHER,
            intent_confidence=0.0,
            spam=False,
            spam_score=0.0,
            sentiment=Sentiment.NEUTRAL,
            sentiment_score=0.0,
            urgency=0,
            lead_level=LeadLevel.NONE,
            lead_score=0,
            lead_reasons=(),
            summary="",
            engine=self.name,
        )


def create():
    return InstantEngine()


def create_50ms():
    """Take 50 ms of time and nothing else."""
    return InstantEngine(0.05)
