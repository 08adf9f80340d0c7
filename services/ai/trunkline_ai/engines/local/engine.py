"""The local engine: rules over readable tables and VADER, and a small model that weighs them; no network."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Self

from trunkline_ai.engines.base import (
    AnalysisResult,
    Context,
    Entity,
    LanguageCapabilities,
    SpeakerRole,
    Transcript,
)
from trunkline_ai.engines.labels import Intent, LeadLevel, Sentiment, Unreliable
from trunkline_ai.engines.local.actions import LISTEN, action_items
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.entities import find_entities
from trunkline_ai.engines.local.findings import rules
from trunkline_ai.engines.local.findings.fence import without_words_to_machines
from trunkline_ai.engines.local.intent import SPAM, IntentRules, IntentVerdict, chosen
from trunkline_ai.engines.local.lead import LeadRules
from trunkline_ai.engines.local.learned.features import found_by_rules
from trunkline_ai.engines.local.learned.model import Model
from trunkline_ai.engines.local.sentiment import SentimentRules
from trunkline_ai.engines.local.signals import Signals
from trunkline_ai.engines.local.summary import NOT_UNDERSTOOD, not_analysed, silence, summarise
from trunkline_ai.engines.local.topics import TopicRules

VERSION = "2.4.0"
"""Raised with every change of a rule, a table or the weights that can change an answer."""


_THREADS = 2
"""Python runs one at a time: a second one only keeps a long conversation from holding up all others."""


class LocalEngine:
    """Analyses in threads of its own; its tables are read-only, so calls may run side by side. Always ready."""

    capabilities = LanguageCapabilities(languages=frozenset({"en"}), inside=True)
    problem = ""

    def __init__(self, model: Model | None = None) -> None:
        """`model`: other weights than those of the package."""
        self._model = model or Model.load()
        self._intents = IntentRules()
        self._sentiment = SentimentRules()
        self._signals = Signals()
        self._lead = LeadRules(self._signals)
        self._topics = TopicRules()
        self._findings = rules.FindingRules(self._sentiment)
        self._threads = ThreadPoolExecutor(_THREADS, "local-engine")

    @property
    def name(self) -> str:
        """`local/<version>`."""
        return f"local/{VERSION}"

    async def analyze(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """Analyse off the event loop; never raises `EngineError`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.analyze_now, transcript, context)

    async def __aenter__(self) -> Self:
        """Nothing warms up: the tables were read when it was made."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the threads; what waits for one is not analysed."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def analyze_now(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """The same in the calling thread."""
        said = transcript.beginning(self.capabilities.most_characters)
        transcript = without_words_to_machines(said)
        conversation = Conversation.of(transcript, context.language)
        scores = self.scores(conversation, context)
        unanalysed = self._intents.readable(conversation, context, scores)
        written = context.message and {turn.role for turn in transcript.turns} == {SpeakerRole.AGENT}
        if written and not (unanalysed and unanalysed.unreliable):
            return self._of_the_business(transcript, conversation, context)
        if unanalysed is not None:
            return self._unanalysed(said, transcript, conversation, context, unanalysed)
        entities = find_entities(transcript)
        likely = self._model.probabilities(
            conversation, self.found(transcript, conversation, scores, entities)
        )
        verdict = chosen(likely["intent"], conversation, context)
        if verdict.intent is Intent.NO_CONVERSATION:
            return self._unanalysed(said, transcript, conversation, context, verdict)
        intent = verdict.intent
        spam = intent in SPAM
        topics = self._topics.find(conversation.everything)
        mood = self._sentiment.judge(likely["sentiment"], intent)
        urgency = self._signals.urgency(conversation, intent)
        lead = self._lead.judge(conversation, intent, urgency, entities, likely["lead"])
        return AnalysisResult(
            intent=intent,
            intent_confidence=round(verdict.confidence, 3),
            spam=spam,
            spam_score=_spam_score(verdict),
            sentiment=mood.label,
            sentiment_score=mood.score,
            urgency=urgency,
            lead_level=lead.level,
            lead_score=lead.score,
            lead_reasons=lead.reasons,
            summary=summarise(transcript, entities),
            topics=topics,
            entities=entities,
            action_items=() if spam else action_items(transcript, intent, topics, entities),
            engine=self.name,
            findings=self._findings.find(
                transcript,
                context,
                intent,
                mood,
                lead.reasons,
                topics,
                entities,
                agreed=self._signals.agrees_a_time(conversation),
            ),
        )

    def scores(self, conversation: Conversation, context: Context) -> dict[Intent, float]:
        """Every intent's points by the rules."""
        return self._intents.scores(conversation, context)

    def found(
        self,
        transcript: Transcript,
        conversation: Conversation,
        scores: Mapping[Intent, float],
        entities: tuple[Entity, ...],
    ) -> list[float]:
        """What the rules found, as the model reads it; `scores` are those of the intents."""
        return found_by_rules(
            scores,
            conversation,
            self._signals,
            self._sentiment.found(transcript, conversation),
            entities,
        )

    def _of_the_business(
        self, transcript: Transcript, conversation: Conversation, context: Context
    ) -> AnalysisResult:
        """What a message of the business is about; of the customer it says nothing."""
        entities = find_entities(transcript)
        return AnalysisResult(
            intent=Intent.OTHER,
            intent_confidence=1.0,
            spam=False,
            spam_score=0.0,
            sentiment=Sentiment.NEUTRAL,
            sentiment_score=0.0,
            urgency=0,
            lead_level=LeadLevel.NONE,
            lead_score=0,
            lead_reasons=("the business wrote it: nothing to score",),
            summary=summarise(transcript, entities),
            topics=self._topics.find(conversation.everything),
            entities=entities,
            engine=self.name,
            findings=self._findings.find_in_message(transcript, context),
        )

    def _unanalysed(
        self,
        said: Transcript,
        read: Transcript,
        conversation: Conversation,
        context: Context,
        verdict: IntentVerdict,
    ) -> AnalysisResult:
        """An honest answer about words that are missing, in another language, or cannot be relied on.

        `read` is what was analysed of what was `said`.
        """
        if verdict.intent is Intent.NO_CONVERSATION and read is not said and not verdict.unreliable:
            # Words were left out because they seem meant for a machine; a person may judge otherwise.
            verdict = replace(
                verdict, intent=Intent.OTHER, confidence=0.5, unreliable=Unreliable.NOT_UNDERSTOOD.value
            )
        language = conversation.foreign if verdict.unreliable == Unreliable.LANGUAGE_NOT_ANALYSED else ""
        silent = verdict.intent is Intent.NO_CONVERSATION
        if silent:
            summary, reason = silence(said, context), "there was no conversation"
        elif language:
            summary, reason = not_analysed(language, context), "the language is not analysed"
        else:
            summary, reason = NOT_UNDERSTOOD, "the words are unreliable"
        return AnalysisResult(
            intent=verdict.intent,
            intent_confidence=verdict.confidence,
            spam=False,
            spam_score=0.0,
            sentiment=Sentiment.NEUTRAL,
            sentiment_score=0.0,
            urgency=0,
            lead_level=LeadLevel.NONE,
            lead_score=0,
            lead_reasons=(f"{reason}: nothing to score",),
            summary=summary,
            action_items=() if silent else (LISTEN,),
            unreliable=verdict.unreliable,
            engine=self.name,
            findings=self._findings.find_unanalysed(said, context),
        )


def _spam_score(verdict: IntentVerdict) -> float:
    """How likely spam is, 0 to 1, rounded on the verdict's side of a half."""
    return round(max(0.5, verdict.spam) if verdict.intent in SPAM else min(0.499, verdict.spam), 3)
