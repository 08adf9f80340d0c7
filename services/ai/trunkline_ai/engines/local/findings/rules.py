"""The findings of the local engine, put together."""

from trunkline_ai.engines.base import Context, Entity, Transcript
from trunkline_ai.engines.findings import Findings
from trunkline_ai.engines.labels import Intent
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.findings import compliance, labels
from trunkline_ai.engines.local.findings.draft import follow_up
from trunkline_ai.engines.local.findings.evidence import EvidenceRules
from trunkline_ai.engines.local.findings.moods import MoodRules
from trunkline_ai.engines.local.findings.outcome import OutcomeRules
from trunkline_ai.engines.local.findings.scorecard import ScorecardRules
from trunkline_ai.engines.local.findings.speech import SpokenSentences
from trunkline_ai.engines.local.sentiment import SentimentRules, SentimentVerdict
from trunkline_ai.engines.quotes import Script


class FindingRules:
    """Reads what the labels leave out; its tables are read-only."""

    def __init__(self, sentiment: SentimentRules) -> None:
        self._outcome = OutcomeRules(cues.table("findings.toml", "outcome"))
        self._scorecard = ScorecardRules(cues.table("findings.toml", "scorecard"))
        self._compliance = cues.table("findings.toml", "compliance")
        self._evidence = EvidenceRules()
        self._moods = MoodRules(sentiment)

    def find(
        self,
        transcript: Transcript,
        context: Context,
        intent: Intent,
        mood: SentimentVerdict,
        reasons: tuple[str, ...],
        topics: tuple[str, ...],
        entities: tuple[Entity, ...],
        *,
        agreed: bool,
    ) -> Findings:
        """The findings of a conversation that was understood; `agreed` is whether a time or a visit was accepted."""
        speech = SpokenSentences.of(Script(transcript))
        outcome = self._outcome.judge(speech, context, intent, agreed=agreed)
        return Findings(
            outcome=outcome,
            evidence=self._evidence.quoted(reasons, speech, intent, entities),
            speaker_sentiments=self._moods.sides(speech, mood),
            sentiment_parts=self._moods.parts(speech),
            follow_up_draft=follow_up(intent, outcome, topics, entities, context),
            scorecard=self._scorecard.judge(speech, context, entities),
            compliance=compliance.flags(speech, self._compliance, context),
            labels=labels.decided(context.settings.labels, speech),
            answers=labels.unanswered(context.settings.questions),
        )

    def find_in_message(self, transcript: Transcript, context: Context) -> Findings:
        """Of a message that the business wrote: the tenant's labels and what the law asks for."""
        speech = SpokenSentences.of(Script(transcript))
        return Findings(
            compliance=compliance.flags(speech, self._compliance, context),
            labels=labels.decided(context.settings.labels, speech),
            answers=labels.unanswered(context.settings.questions),
        )

    def find_unanalysed(self, transcript: Transcript, context: Context) -> Findings:
        """Of a conversation that was not understood: what the law asks for, and that the rest is not analysed."""
        return Findings(
            compliance=compliance.flags(SpokenSentences.of(Script(transcript)), self._compliance, context),
            labels=labels.undecided(context.settings.labels),
            answers=labels.unanswered(context.settings.questions),
        )
