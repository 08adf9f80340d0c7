"""How hard a conversation is to analyse: a number, from what is known before anything is paid for."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime.language_tags import may_be_english

from trunkline_ai.engines.base import AnalysisResult, Context, SpeakerRole, Transcript
from trunkline_ai.engines.labels import Intent, Unreliable

_MANY_WORDS = 600
_MANY_TURNS = 40
_LENGTH_WEIGHT = 0.2
_TURNS_WEIGHT = 0.1
_SPEAKERS_WEIGHT = 0.1
_DOUBT_WEIGHT = 0.6


@dataclass(frozen=True)
class Complexity:
    """The parts of a score; each is 0 for what is simple, up to its weight."""

    length: float = 0.0
    """Up to 0.2, at 600 words."""
    turns: float = 0.0
    """Up to 0.1, at 40 turns."""
    speakers: float = 0.0
    """0.1 where some of it was said by nobody knows whom."""
    doubt: float = 0.0
    """Up to 0.6: how unsure the local engine is of the intent; 0.6 where it can't rely on the words."""
    language: float = 0.0
    """1 where it isn't English, which the local engine doesn't analyse."""

    @property
    def score(self) -> float:
        """0 (simple) to 1 (hard)."""
        return min(1.0, self.length + self.turns + self.speakers + self.doubt + self.language)


def complexity_of(transcript: Transcript, context: Context, own: AnalysisResult) -> Complexity:
    """Judge a conversation; `own` is the local engine's answer."""
    unsure = bool(own.unreliable) and own.intent is not Intent.NO_CONVERSATION
    sure = 0.0 if unsure else min(1.0, max(0.0, own.intent_confidence))
    words = sum(len(turn.text.split()) for turn in transcript.turns)
    return Complexity(
        length=_LENGTH_WEIGHT * min(1.0, words / _MANY_WORDS),
        turns=_TURNS_WEIGHT * min(1.0, len(transcript.turns) / _MANY_TURNS),
        speakers=_SPEAKERS_WEIGHT * any(turn.role is SpeakerRole.UNKNOWN for turn in transcript.turns),
        doubt=_DOUBT_WEIGHT * (1.0 - sure),
        language=float(is_foreign(context, own)),
    )


def is_foreign(context: Context, own: AnalysisResult) -> bool:
    """Whether a conversation is in another language than English, by what is told, or by the local engine."""
    return not may_be_english(context.language) or own.unreliable == Unreliable.LANGUAGE_NOT_ANALYSED
