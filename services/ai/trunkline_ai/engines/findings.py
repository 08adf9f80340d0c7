"""What an analysis tells beyond its labels, each with the words that it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from trunkline_ai.engines.labels import Sentiment


class Outcome(StrEnum):
    """How a conversation ended for the business."""

    UNKNOWN = "unknown"
    BOOKED = "booked"
    LOST = "lost"
    CALLBACK_PROMISED = "callback_promised"
    RESOLVED = "resolved"
    UNRESOLVED = "unresolved"
    NONE = "none"
    """There was nothing to deal with."""


class Verdict(StrEnum):
    """Whether something is so."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    NOT_ANALYSED = "not_analysed"
    """The engine can't tell; another one may."""


class Compliance(StrEnum):
    """What a business must know of for the law's sake."""

    RECORDING_CONSENT = "recording_consent"
    CARD_NUMBER = "card_number"
    SOCIAL_SECURITY_NUMBER = "social_security_number"
    OPT_OUT = "opt_out"


class Side(StrEnum):
    """Whose words; `UNKNOWN` when the voices were not told apart."""

    AGENT = "agent"
    CUSTOMER = "customer"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Quote:
    """Words of a conversation; `start` and `end` are character offsets into `Transcript.text`."""

    text: str
    """Verbatim; empty when the words must not be stored."""
    start: int
    end: int
    start_seconds: float | None = None
    """From the start of the recording; None when the transcript has no times."""
    end_seconds: float | None = None


@dataclass(frozen=True)
class Reason:
    """A reason for the lead score."""

    text: str
    points: int
    quote: Quote | None = None


@dataclass(frozen=True)
class SideMood:
    """How one side felt, -1 to 1."""

    side: Side
    sentiment: Sentiment
    score: float


@dataclass(frozen=True)
class MoodPart:
    """How the customer felt in one part; None when they said nothing in it. `span` has no text."""

    span: Quote
    sentiment: Sentiment | None
    score: float = 0.0


@dataclass(frozen=True)
class Mark:
    """One line of a scorecard."""

    verdict: Verdict = Verdict.UNKNOWN
    quote: Quote | None = None


@dataclass(frozen=True)
class Scorecard:
    """How the business's side handled a call."""

    greeted: Mark = field(default=Mark())
    gave_name: Mark = field(default=Mark())
    asked_name: Mark = field(default=Mark())
    time_offered: Mark = field(default=Mark())


@dataclass(frozen=True)
class Flag:
    """Something that a business must know of for the law's sake."""

    type: Compliance
    quote: Quote


@dataclass(frozen=True)
class LabelVerdict:
    """Whether one of the tenant's own labels applies."""

    name: str
    verdict: Verdict
    quote: Quote | None = None


@dataclass(frozen=True)
class AnswerGiven:
    """The answer to one of the tenant's own questions; `text` for those that are not of yes or no."""

    question: str
    verdict: Verdict
    text: str = ""
    quote: Quote | None = None


@dataclass(frozen=True)
class Mention:
    """A tracked keyword that was said."""

    keyword: str
    phrase: str
    side: Side
    quote: Quote


@dataclass(frozen=True)
class Findings:
    """All of it; what an engine doesn't find is unknown or empty."""

    outcome: Outcome = Outcome.UNKNOWN
    evidence: tuple[Reason, ...] = ()
    """The lead's reasons, with what they rest on."""
    speaker_sentiments: tuple[SideMood, ...] = ()
    sentiment_parts: tuple[MoodPart, ...] = ()
    follow_up_draft: str = ""
    scorecard: Scorecard = field(default=Scorecard())
    compliance: tuple[Flag, ...] = ()
    labels: tuple[LabelVerdict, ...] = ()
    answers: tuple[AnswerGiven, ...] = ()
