"""What Google's answers mean. Pure: nothing is sent here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from trunkline_audio.engines import windows
from trunkline_audio.engines.base import Segment, Word
from trunkline_audio.engines.windows import Window
from trunkline_audio.media.preprocess.timeline import RATE

MOST_VOICES = 3


@dataclass(frozen=True)
class LabelledSegment:
    """A segment, and what Google calls its speaker: a label that holds within one answer, empty without any."""

    segment: Segment
    label: str = ""


@dataclass(frozen=True)
class HeardWindow:
    """What was heard in one window."""

    said: tuple[LabelledSegment, ...] = ()
    language: str = ""
    billed_seconds: float = 0.0
    confidences: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class _ToldWord:
    """A word as Google tells it; times in seconds of the window."""

    text: str
    start: float
    end: float
    sure: float | None
    label: str


def heard(window: Window, answer: Any) -> HeardWindow:
    """Return what an answer (a RecognizeResponse, or a file's BatchRecognizeResults) says was heard in a window.

    Times, confidences, and speakers of words are optional, as some models give none. What has no time is one segment,
    from the first utterance of its window to the last; where its words have speakers, one for each turn, with times by
    the number of letters.
    """
    results = [result for result in answer.results if result.alternatives]
    said = [one for result in results for one in _said(window, result)]
    billed = answer.metadata.total_billed_duration.total_seconds() if answer.metadata else 0.0
    sure = [a.confidence for result in results for a in result.alternatives[:1] if a.confidence > 0]
    return HeardWindow(
        tuple(one for one in said if one.segment.text),
        next((result.language_code for result in results if result.language_code), ""),
        billed or window.seconds,
        tuple(sure),
    )


def segments(heard_windows: Sequence[HeardWindow]) -> list[Segment]:
    """Return the segments of a recording, their voices by Google's labels where it gave any.

    Labels hold within one answer. So where a recording took several, those of each are matched with the voices that
    were told apart by their sound, by the time that they share.
    """
    alone = sum(bool(window.said) for window in heard_windows) <= 1
    out = []
    for window in heard_windows:
        voices = _in_order(window.said) if alone else _matched(window.said)
        for one in window.said:
            voice = voices.get(one.label, 0) if one.label else one.segment.voice
            out.append(replace(one.segment, voice=voice))
    return out


def _in_order(said: Sequence[LabelledSegment]) -> dict[str, int]:
    """Return a voice for each label, in the order of their first words; 0 for more than are told apart."""
    labels = dict.fromkeys(one.label for one in sorted(said, key=lambda one: one.segment.start) if one.label)
    return {label: number if number <= MOST_VOICES else 0 for number, label in enumerate(labels, 1)}


def _matched(said: Sequence[LabelledSegment]) -> dict[str, int]:
    shared = Counter[tuple[str, int]]()
    for one in said:
        if one.label and one.segment.voice:
            shared[one.label, one.segment.voice] += round(1000 * (one.segment.end - one.segment.start)) + 1
    out: dict[str, int] = {}
    for (label, voice), _ in shared.most_common():
        if label not in out and voice not in out.values():
            out[label] = voice
    # Of a further speaker only the sound would tell whether it is the one of another answer.
    return out


def _said(window: Window, result: Any) -> list[LabelledSegment]:
    best = result.alternatives[0]
    text = " ".join(best.transcript.split())
    words = _words(best.words)
    own = _same(text, " ".join(word.text for word in words))
    if not any(word.end for word in words):
        return _without_times(window, result, text, words if own else [])
    out = _in_utterances(window, words)
    if not own:
        # The transcript is what people read: where the words are not its words, they only give it its time.
        voice = out[0].segment.voice
        start, end = min(one.segment.start for one in out), max(one.segment.end for one in out)
        told = tuple(word for one in out for word in one.segment.words)
        label = _most([word.label for word in words])
        return [LabelledSegment(Segment(window.lane, voice, start, end, text, told), label)]
    return out


def _words(infos: Any) -> list[_ToldWord]:
    """Return the words; one without a time is where the one before it ends."""
    out: list[_ToldWord] = []
    for info in infos:
        text = info.word.strip()
        if not text:
            continue
        start = end = out[-1].end if out else 0.0
        if info.end_offset is not None:
            end = info.end_offset.total_seconds()
            start = min(end, info.start_offset.total_seconds()) if info.start_offset is not None else start
        out.append(_ToldWord(text, start, end, _sure(info.confidence), info.speaker_label))
    return out


def _without_times(
    window: Window, result: Any, text: str, words: Sequence[_ToldWord]
) -> list[LabelledSegment]:
    first, last = window.utterances[0], window.utterances[-1]
    length = sum((item.end - item.start) / RATE + windows.GAP_SECONDS for item in window.utterances)
    if result.result_end_offset:
        length = min(length, result.result_end_offset.total_seconds())
    end = max(_moment(window, length), first.start / RATE) if result.result_end_offset else last.end / RATE
    turns = [(label, list(run)) for label, run in groupby(words, key=lambda word: word.label)]
    if len(turns) < 2:
        label = turns[0][0] if turns else ""
        return [LabelledSegment(Segment(window.lane, first.voice, first.start / RATE, end, text), label)]
    letters, before, out = sum(len(word.text) for word in words), 0, []
    for label, run in turns:
        starts = _moment(window, length * before / letters)
        before += sum(len(word.text) for word in run)
        ends = max(starts, _moment(window, length * before / letters))
        written = " ".join(word.text for word in run)
        out.append(
            LabelledSegment(Segment(window.lane, _voice_at(window, starts), starts, ends, written), label)
        )
    return out


def _in_utterances(window: Window, words: Sequence[_ToldWord]) -> list[LabelledSegment]:
    """Return a segment for each utterance, and within it for each speaker."""
    spans = [(item.start, item.end) for item in window.utterances]
    placed = windows.in_place([(word.text, word.start, word.end, word.sure) for word in words], spans)
    labels = iter([word.label for word in words])  # words keep their order
    out = []
    for item, mine in zip(window.utterances, placed, strict=True):
        labelled = [(next(labels), Word(*word)) for word in mine]
        for label, run in groupby(labelled, key=lambda one: one[0]):
            told = tuple(word for _, word in run)
            written = " ".join(word.text for word in told)
            start, end = min(word.start for word in told), max(word.end for word in told)
            out.append(LabelledSegment(Segment(item.lane, item.voice, start, end, written, told), label))
    return out


def _voice_at(window: Window, moment: float) -> int:
    return next((item.voice for item in window.utterances if moment < item.end / RATE), 0)


def _moment(window: Window, offset: float) -> float:
    """Return a time within a window as a time of the recording."""
    spans = [(item.start / RATE, item.end / RATE) for item in window.utterances]
    for (begin, end), (start, until) in zip(spans, windows.places(spans), strict=True):
        if offset <= until:
            return min(end, begin + max(0.0, offset - start))
    return spans[-1][1]


def _most(labels: Sequence[str]) -> str:
    return Counter(labels).most_common(1)[0][0] if labels else ""


def _same(one: str, other: str) -> bool:
    return _letters(one) == _letters(other)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _sure(confidence: float) -> float | None:
    """Return a confidence; 0 is how the service says that it has none."""
    return min(1.0, confidence) if confidence > 0 else None
