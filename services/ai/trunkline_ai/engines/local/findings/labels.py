"""A tenant's own labels by their examples, which is all of them that the local engine can read."""

from collections.abc import Sequence

from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2

from trunkline_ai.engines.findings import AnswerGiven, LabelVerdict, Verdict
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.findings.speech import Sentence, SpokenSentences
from trunkline_ai.engines.local.text import canonical

_EMPTY = cues.words("function") | cues.words("summary_stop") | cues.words("empty")
_LEAST_WORDS = 2


def decided(
    labels: Sequence[settings_pb2.AnalysisLabel], speech: SpokenSentences
) -> tuple[LabelVerdict, ...]:
    """Yes where a sentence says an example: its words in order, or all of its words that carry content.

    That nobody says an example does not show that a label doesn't apply: it's not analysed then.
    """
    if not labels:
        return ()
    read = [(one, f" {one.said} ", frozenset(one.said.split())) for one in speech.sentences]
    return tuple(_decided(label, speech, read) for label in labels)


def unanswered(questions: Sequence[settings_pb2.AnalysisQuestion]) -> tuple[AnswerGiven, ...]:
    """Questions need an engine that reads them."""
    return tuple(AnswerGiven(question.id, Verdict.NOT_ANALYSED) for question in questions)


def undecided(labels: Sequence[settings_pb2.AnalysisLabel]) -> tuple[LabelVerdict, ...]:
    """All of them, where the conversation itself is not analysed."""
    return tuple(LabelVerdict(label.name, Verdict.NOT_ANALYSED) for label in labels)


def _decided(
    label: settings_pb2.AnalysisLabel,
    speech: SpokenSentences,
    read: list[tuple[Sentence, str, frozenset[str]]],
) -> LabelVerdict:
    for example in label.examples:
        said = canonical(example)
        if not said:
            continue
        telling = frozenset(said.split()) - _EMPTY
        for sentence, spaced, words in read:
            if f" {said} " in spaced or (len(telling) >= _LEAST_WORDS and telling <= words):
                return LabelVerdict(label.name, Verdict.YES, speech.quote(sentence))
    return LabelVerdict(label.name, Verdict.NOT_ANALYSED)
