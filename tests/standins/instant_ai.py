"""An engine for pipeline load tests: answers at once that it looked at nothing, and says so by its name.

TRUNKLINE_AI_ENGINE=tests.standins.instant_ai:create, started from the repository's root.
"""

from trunkline_ai.engines.base import AnalysisResult
from trunkline_ai.labels import Intent, LeadLevel, Sentiment


class InstantEngine:
    name = "instant/standin"

    async def analyze(self, transcript, context):
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

    async def close(self):
        pass


def create():
    return InstantEngine()
