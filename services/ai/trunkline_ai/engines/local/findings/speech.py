"""A transcript's sentences: in the form that cues read, and where they stand."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from trunkline_ai.engines.findings import Quote, Side
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.text import canonical, sentence_spans
from trunkline_ai.engines.quotes import Script

_EARLY = 30
"""Sentences: what somebody wants is said early."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence in canonical form; `start` and `end` are offsets into the transcript's text."""

    side: Side
    turn: int
    start: int
    end: int
    said: str


@dataclass(frozen=True)
class Speech:
    """The sentences in order; those of voices that were not told apart count for both sides."""

    script: Script
    sentences: tuple[Sentence, ...]

    @classmethod
    def of(cls, script: Script) -> "Speech":
        """Read every turn."""
        read = [
            Sentence(
                Side(turn.role.value), number, begun + start, begun + end, canonical(turn.text[start:end])
            )
            for number, (turn, begun) in enumerate(zip(script.transcript.turns, script.starts, strict=True))
            for start, end in sentence_spans(turn.text)
        ]
        return cls(script, tuple(one for one in read if one.said))

    def by(self, side: Side) -> tuple[Sentence, ...]:
        """What a side said."""
        return tuple(one for one in self.sentences if one.side in (side, Side.UNKNOWN))

    def quote(self, sentence: Sentence) -> Quote:
        """A sentence as a quote."""
        return self.script.quote(sentence.start, sentence.end)


def first(sentences: Iterable[Sentence], table: cues.CueTable, label: str) -> Sentence | None:
    """The first sentence with a cue of the label."""
    return next((one for one in sentences if table.score(label, one.said) > 0), None)


def best(sentences: Iterable[Sentence], table: cues.CueTable, label: str) -> Sentence | None:
    """The early sentence whose cues of the label weigh most, the first of several; None without a cue."""
    early = islice(sentences, _EARLY)
    scored = [(table.score(label, one.said), one) for one in early]
    score, sentence = max(scored, key=lambda pair: pair[0], default=(0.0, None))
    return sentence if score > 0 else None
