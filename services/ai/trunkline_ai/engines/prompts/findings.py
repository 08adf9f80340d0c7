"""What an answer tells beyond the labels, as far as its quotes were said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2

from trunkline_ai.engines.base import Context, SpeakerRole
from trunkline_ai.engines.findings import (
    AnswerGiven,
    Compliance,
    Findings,
    Flag,
    LabelVerdict,
    Mark,
    MoodPart,
    Outcome,
    Reason,
    Scorecard,
    Side,
    SideMood,
    Verdict,
)
from trunkline_ai.engines.labels import Sentiment
from trunkline_ai.engines.prompts.checks import Check
from trunkline_ai.engines.quotes import Script

_FELT = 0.33
"""From which score on, up or down, a third counts as positive or negative."""
_MOST_ANSWER = 500
_MOST_FLAGS = 20
_THIRDS = ("first", "middle", "last")


def findings_of(
    answer: Mapping[str, Any],
    reasons: tuple[Reason, ...],
    script: Script,
    context: Context,
    check: Check,
    *,
    spam: bool,
) -> Findings:
    """Read them; a yes without a quote that was said is unknown."""
    return Findings(
        outcome=Outcome.NONE if spam else Outcome(answer["outcome"]),
        evidence=reasons,
        speaker_sentiments=tuple(_sides(answer, script)),
        sentiment_parts=_parts(answer["sentiment_thirds"], answer, script),
        follow_up_draft="" if spam else check.text(answer["follow_up_draft"], acts=True),
        scorecard=_scorecard(answer["scorecard"], script, context, check),
        compliance=tuple(_flags(answer["compliance"], check)),
        labels=_labels(answer.get("labels", ()), context.settings.labels, check),
        answers=_answers(answer.get("answers", ()), context.settings.questions, check),
    )


def _sides(answer: Mapping[str, Any], script: Script) -> Iterator[SideMood]:
    roles = {turn.role for turn in script.transcript.turns}
    if SpeakerRole.AGENT in roles and answer["agent_sentiment"] in list(Sentiment):
        sentiment = Sentiment(answer["agent_sentiment"])
        yield SideMood(Side.AGENT, sentiment, float(list(Sentiment).index(sentiment) - 1))
    if SpeakerRole.CUSTOMER in roles:
        yield SideMood(Side.CUSTOMER, Sentiment(answer["sentiment"]), float(answer["sentiment_score"]))


def _parts(thirds: Mapping[str, float], answer: Mapping[str, Any], script: Script) -> tuple[MoodPart, ...]:
    """Thirds of the turns; one part for fewer than three turns."""
    turns, starts = script.transcript.turns, script.starts
    if len(turns) < len(_THIRDS):
        whole = MoodPart(
            script.silent(0, len(script.text)),
            Sentiment(answer["sentiment"]),
            float(answer["sentiment_score"]),
        )
        return (whole,)
    parts = []
    for number, name in enumerate(_THIRDS):
        first = number * len(turns) // len(_THIRDS)
        last = (number + 1) * len(turns) // len(_THIRDS) - 1
        span = script.silent(starts[first], starts[last] + len(turns[last].text))
        if all(turn.role is SpeakerRole.AGENT for turn in turns[first : last + 1]):
            parts.append(MoodPart(span, None))
        else:
            parts.append(MoodPart(span, _sentiment(thirds[name]), float(thirds[name])))
    return tuple(parts)


def _sentiment(score: float) -> Sentiment:
    if score <= -_FELT:
        return Sentiment.NEGATIVE
    return Sentiment.POSITIVE if score >= _FELT else Sentiment.NEUTRAL


def _scorecard(given: Mapping[str, Any], script: Script, context: Context, check: Check) -> Scorecard:
    told = any(turn.role is SpeakerRole.AGENT for turn in script.transcript.turns)
    if context.message or context.voicemail or not told:
        return Scorecard()
    return Scorecard(**{name: _mark(one, script, check) for name, one in given.items()})


def _mark(given: Mapping[str, str], script: Script, check: Check) -> Mark:
    """A yes needs words of the agent's."""
    verdict = Verdict(given["answer"])
    if verdict is not Verdict.YES:
        return Mark(verdict)
    quote = check.quote(given["quote"])
    if quote is None or script.side_at(quote.start) is Side.CUSTOMER:
        return Mark(Verdict.UNKNOWN)
    return Mark(verdict, quote)


def _flags(given: Sequence[Mapping[str, str]], check: Check) -> Iterator[Flag]:
    seen: set[Compliance] = set()
    for one in given[:_MOST_FLAGS]:
        kind = Compliance(one["type"])
        if kind not in seen and (quote := check.quote(one["quote"])) is not None:
            seen.add(kind)
            yield Flag(kind, quote)


def _labels(
    given: Sequence[Mapping[str, str]], asked: Sequence[settings_pb2.AnalysisLabel], check: Check
) -> tuple[LabelVerdict, ...]:
    said = {one["name"]: one for one in reversed(given)}
    return tuple(_label(label.name, said.get(label.name), check) for label in asked)


def _label(name: str, given: Mapping[str, str] | None, check: Check) -> LabelVerdict:
    verdict = Verdict(given["answer"]) if given else Verdict.UNKNOWN
    quote = check.quote(given["quote"]) if given and verdict is Verdict.YES else None
    if verdict is Verdict.YES and quote is None:
        return LabelVerdict(name, Verdict.UNKNOWN)
    return LabelVerdict(name, verdict, quote)


def _answers(
    given: Sequence[Mapping[str, str]], asked: Sequence[settings_pb2.AnalysisQuestion], check: Check
) -> tuple[AnswerGiven, ...]:
    said = {one["question"]: one for one in reversed(given)}
    return tuple(_given(question, said.get(question.id), check) for question in asked)


def _given(
    question: settings_pb2.AnalysisQuestion, given: Mapping[str, str] | None, check: Check
) -> AnswerGiven:
    if given is None:
        return AnswerGiven(question.id, Verdict.UNKNOWN)
    verdict, quote = Verdict(given["answer"]), check.quote(given["quote"])
    if question.form != settings_pb2.ANSWER_FORM_TEXT:
        if verdict is Verdict.YES and quote is None:
            verdict = Verdict.UNKNOWN
        return AnswerGiven(question.id, verdict, quote=quote)
    text = check.line(given["text"], _MOST_ANSWER)
    if verdict is not Verdict.YES or quote is None or not text:
        return AnswerGiven(question.id, Verdict.UNKNOWN)
    return AnswerGiven(question.id, Verdict.YES, text, quote)
