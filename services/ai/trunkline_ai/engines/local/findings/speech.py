"""A transcript's sentences: in the form that cues read, and where they stand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from trunkline_ai.engines.findings import Quote, Side
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.text import Spoken, canonical, sentence_spans
from trunkline_ai.engines.quotes import Script

_EARLY = 30
"""Sentences: what somebody wants is said early."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence in canonical form; `start` and `end` are offsets into the transcript's text."""

    number: int
    side: Side
    turn: int
    start: int
    end: int
    said: Spoken


@dataclass(frozen=True)
class SpokenSentences:
    """The sentences in order; those of voices that were not told apart count for both sides."""

    script: Script
    sentences: tuple[Sentence, ...]

    @classmethod
    def of(cls, script: Script) -> "SpokenSentences":
        """Read every turn."""
        read = (
            (Side(turn.role.value), turn_number, begun + start, begun + end, said)
            for turn_number, (turn, begun) in enumerate(
                zip(script.transcript.turns, script.starts, strict=True)
            )
            for start, end in sentence_spans(turn.text)
            if (said := canonical(turn.text[start:end]))
        )
        return cls(script, tuple(Sentence(number, *one) for number, one in enumerate(read)))

    @cached_property
    def said(self) -> Spoken:
        """All sentences, one a line."""
        return Spoken("\n".join(one.said for one in self.sentences))

    def scores(self, table: cues.CueTable, label: str) -> Mapping[int, float]:
        """The sum of the weights of a label's cues in each sentence that has one, by its number."""
        key = (table, label)
        if key not in self._scores:
            self._scores[key] = table.lines(label, self.said)
        return self._scores[key]

    @cached_property
    def _scores(self) -> dict[tuple[cues.CueTable, str], Mapping[int, float]]:
        return {}

    def by(self, side: Side) -> tuple[Sentence, ...]:
        """What a side said."""
        return tuple(one for one in self.sentences if one.side in (side, Side.UNKNOWN))

    def quote(self, sentence: Sentence) -> Quote:
        """A sentence as a quote."""
        return self.script.quote(sentence.start, sentence.end)


def first(
    speech: SpokenSentences, sentences: Iterable[Sentence], table: cues.CueTable, label: str
) -> Sentence | None:
    """The first sentence with a cue of the label."""
    scores = speech.scores(table, label)
    return next((one for one in sentences if scores.get(one.number, 0) > 0), None)


def best(
    speech: SpokenSentences, sentences: Iterable[Sentence], table: cues.CueTable, label: str
) -> Sentence | None:
    """The early sentence whose cues of the label weigh most, the first of several; None without a cue."""
    scores = speech.scores(table, label)
    early = islice(sentences, _EARLY)
    scored = [(scores.get(one.number, 0.0), one) for one in early]
    score, sentence = max(scored, key=lambda pair: pair[0], default=(0.0, None))
    return sentence if score > 0 else None
