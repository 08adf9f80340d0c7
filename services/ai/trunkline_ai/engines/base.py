"""What a language engine is: the tasks, `complete` below them, and the values that cross both.

A model implements CompletingEngine, and engines/prompted.py makes the tasks of it. An engine that is no model, such as
the local one, implements LanguageEngine, the tasks themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from trunkline.common.v1 import analysis_settings_pb2
from trunkline_runtime.engines.base import Engine, EngineUsage

from trunkline_ai.engines.findings import Findings
from trunkline_ai.engines.labels import EntityType, Intent, LeadLevel, Sentiment
from trunkline_ai.pii import ALL, PiiKind


class SpeakerRole(StrEnum):
    """Who spoke a turn; `UNKNOWN` when the voices were not told apart."""

    AGENT = "agent"
    CUSTOMER = "customer"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Moment:
    """When the words from a character of a turn's text on were said, in seconds from the recording's start."""

    start: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Turn:
    """One stretch of speech by one speaker, as the recogniser or a writer gave it."""

    role: SpeakerRole
    text: str
    times: tuple[Moment, ...] = ()
    """In order; none when the times are not known."""


@dataclass(frozen=True)
class Transcript:
    """What was said, in order of time; no turns mean that nobody spoke."""

    turns: tuple[Turn, ...]

    @property
    def text(self) -> str:
        """The turns one a line: the text that an entity's offsets count in."""
        return "\n".join(turn.text for turn in self.turns)

    def beginning(self, most: int) -> Transcript:
        """The turns up to so many characters of `text`, the last one cut: what an answer costs grows with the text."""
        left = most
        turns: list[Turn] = []
        for turn in self.turns:
            turns.append(turn if len(turn.text) <= left else replace(turn, text=turn.text[:left]))
            left -= len(turns[-1].text) + 1
            if left <= 0:
                break
        return self if left > 0 else Transcript(tuple(turns))


@dataclass(frozen=True)
class Context:
    """What is known about a conversation beside its words."""

    language: str = ""
    """BCP 47; empty when unknown."""
    voicemail: bool = False
    """The provider says that a message was left."""
    unreliable: str = ""
    """Empty, or the recogniser's reason why its words cannot be relied on, such as `low_confidence`."""
    message: bool = False
    """A written message or form, not a call."""
    tenant_id: str = ""
    """Whose conversation it is: never part of what a model is told."""
    call_id: str = ""
    """Whose call it is, as `tenant_id`."""
    generation: int = 0
    """Above 0: it was analysed before, and whoever asks wants a new answer."""
    settings: analysis_settings_pb2.AnalysisSettings = field(
        default_factory=analysis_settings_pb2.AnalysisSettings
    )
    """How the tenant wants it analysed."""
    priority: int = 0
    """The class in which it waits: 0 (realtime), 1 (batch), or 2 (background)."""


@dataclass(frozen=True)
class Entity:
    """Something that was named; `start` and `end` are character offsets into `Transcript.text`."""

    type: EntityType
    text: str
    value: str
    """The normal form (+13125550199, 09:30, 120.00); empty when there is none."""
    start: int
    end: int


@dataclass(frozen=True)
class AnalysisResult:
    """What an engine found out."""

    intent: Intent
    intent_confidence: float
    """0 to 1."""
    spam: bool
    spam_score: float
    """0 to 1; spam from 0.5."""
    sentiment: Sentiment
    sentiment_score: float
    """-1 to 1."""
    urgency: int
    """0 (no hurry) to 3 (now)."""
    lead_level: LeadLevel
    lead_score: int
    """0 to 100."""
    lead_reasons: tuple[str, ...]
    """What made the score, such as `asks for a price: +10`; their points sum to the score before its limits."""
    summary: str
    engine: str
    """Name and version, such as `local/1.2.0`."""
    topics: tuple[str, ...] = field(default=())
    entities: tuple[Entity, ...] = field(default=())
    action_items: tuple[str, ...] = field(default=())
    unreliable: str = ""
    """Empty, or the reason why it cannot be relied on: one of labels.Unreliable, or the transcript's own."""
    degraded: bool = False
    """The answer of a lesser engine than the configured one."""
    degraded_reason: str = ""
    """The configured engine's reason not to answer, of an answer that is degraded."""
    final: bool = False
    """Degraded, and asking the configured engine again changes nothing: it refused for good."""
    usage: EngineUsage = field(default_factory=EngineUsage)
    findings: Findings = field(default=Findings())
    """What it tells beyond its labels."""


@dataclass(frozen=True)
class LanguageCapabilities:
    """What a language engine can do. The conformance suite holds it to each."""

    languages: frozenset[str] | None = None
    """Primary language subtags (`en`) that it analyses, None for any; the others get `language_not_analysed`."""
    most_characters: int = 100_000
    """Of a conversation; what was said after them is not read. 100,000 are some two hours of speech."""
    inside: bool = False
    """No word of a conversation leaves the suite, or the network that it is in."""
    queues: bool = False
    """Lets requests wait by itself, as its provider's limits demand; the others are asked so many at once."""
    price_micros: int = 0
    """What a usual analysis costs, in millionths of a US dollar: by it, engines are told cheap and dear."""


class LanguageEngine(Engine, Protocol):
    """An engine that does the tasks."""

    @property
    def capabilities(self) -> LanguageCapabilities:
        """What it can do, the same all its life."""

    async def analyze(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """Analyse a conversation. Raises EngineError."""


@dataclass(frozen=True)
class Prompt:
    """What a model is asked. `data` is what a stranger may have said: never instructions, sent apart from them."""

    name: str
    """The prompt's file and version, such as `analyse_call.v1`: another version may get another answer."""
    instructions: str
    data: str
    tenant_id: str = ""
    """Whose data it is: for what is kept and counted by tenant, never sent."""
    priority: int = 0
    """The class in which it waits, as in Context."""
    call_id: str = ""
    """The call that it belongs to: what is kept of it goes with the call. Never sent."""
    generation: int = 0
    """A kept answer is one to the same generation. Never sent."""
    redacted: frozenset[PiiKind] = ALL
    """What of the conversation a model outside of the suite gets placeholders for."""
    may_ask: Callable[[], Awaitable[None]] | None = field(default=None, compare=False)
    """Awaited by an engine with a queue before each try, once it has its place: raises EngineError if it must not."""


class Finish(StrEnum):
    """Why a model stopped writing."""

    DONE = "done"
    CUT = "cut"
    """At its limit of tokens: the text is not whole."""
    BLOCKED = "blocked"
    """It refuses this content."""


@dataclass(frozen=True)
class Completion:
    """What a model wrote. `text` is JSON of the schema if `finish` is DONE, as far as the model kept to it."""

    engine: str
    """The name of the engine that answered."""
    text: str
    finish: Finish = Finish.DONE
    usage: EngineUsage = field(default_factory=EngineUsage)


class CompletingEngine(Engine, Protocol):
    """A language model, below the tasks."""

    @property
    def capabilities(self) -> LanguageCapabilities:
        """What it can do, the same all its life."""

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """Answer a prompt with JSON of a JSON schema. An answer that is paid for is returned, whatever its `finish`.

        Raises EngineError where there is no answer.
        """
