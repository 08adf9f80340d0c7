"""The one interface of an analysis engine, and what goes in and comes out of it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from trunkline_ai.engines.labels import EntityType, Intent, LeadLevel, Sentiment


class SpeakerRole(StrEnum):
    """Who spoke a turn; `UNKNOWN` when the voices were not told apart."""

    AGENT = "agent"
    CUSTOMER = "customer"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Turn:
    """One stretch of speech by one speaker, as the recogniser or a writer gave it."""

    role: SpeakerRole
    text: str


@dataclass(frozen=True)
class Transcript:
    """What was said, in order of time; no turns mean that nobody spoke."""

    turns: tuple[Turn, ...]

    @property
    def text(self) -> str:
        """The turns one a line: the text that an entity's offsets count in."""
        return "\n".join(turn.text for turn in self.turns)


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
    final: bool = False
    """Degraded, and asking the configured engine again changes nothing: it refused for good."""


class EngineError(Exception):
    """An engine could not answer; `transient` says whether a later attempt may."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class Engine(Protocol):
    """Analyses one conversation at a time; must leave the event loop free and be safe for concurrent calls."""

    @property
    def name(self) -> str:
        """Name and version, such as `local/1.2.0`; part of what a result says about itself."""
        ...

    async def analyze(self, transcript: Transcript, context: Context) -> AnalysisResult:
        """Analyse a conversation; raises `EngineError` when the engine cannot answer."""
        ...

    async def close(self) -> None:
        """Release what the engine holds."""
        ...
