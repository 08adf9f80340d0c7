"""Requests to Google Speech-to-Text, and what its answers mean. Pure: nothing is sent here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from trunkline_audio.engines import windows
from trunkline_audio.engines.base import Segment, Word
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.windows import Window
from trunkline_audio.media.preprocess.timeline import RATE

if TYPE_CHECKING:
    from google.cloud import speech_v2

ANY_LANGUAGE = "auto"
"""What is asked for when nobody said which language is spoken."""


@dataclass(frozen=True)
class HeardWindow:
    """What was heard in one window."""

    segments: tuple[Segment, ...] = ()
    language: str = ""
    billed_seconds: float = 0.0
    confidences: tuple[float, ...] = field(default=(), repr=False)


def request(settings: GoogleSettings, language: str, sound: bytes) -> speech_v2.RecognizeRequest:
    """Return the request for one window: `sound` is FLAC of one channel."""
    from google.cloud import speech_v2  # noqa: PLC0415 -- half a second and 40 MB, for those who use it

    config = speech_v2.RecognitionConfig(
        auto_decoding_config=speech_v2.AutoDetectDecodingConfig(),
        model=settings.model,
        language_codes=[language or ANY_LANGUAGE],
        features=speech_v2.RecognitionFeatures(
            enable_word_time_offsets=True, enable_word_confidence=True, enable_automatic_punctuation=True
        ),
    )
    return speech_v2.RecognizeRequest(recognizer=settings.recognizer_name, config=config, content=sound)


def flac(samples: NDArray[np.int16]) -> bytes:
    """Return samples at 16 kHz as a FLAC file: lossless, and a third of their size."""
    body = io.BytesIO()
    with av.open(body, "w", format="flac") as out:
        stream = out.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = RATE
        size = stream.codec_context.frame_size or 4096
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE, frame_size=size)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            for packet in stream.encode(piece):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return body.getvalue()


def heard(window: Window, answer: Any) -> HeardWindow:
    """Return what an answer, a RecognizeResponse, says was heard in a window.

    Times and confidences of words are optional, as some models give none: what has no time is one segment, from the
    first utterance of its window to the last.
    """
    results = [result for result in answer.results if result.alternatives]
    segments = [segment for result in results for segment in _segments(window, result)]
    billed = answer.metadata.total_billed_duration.total_seconds() if answer.metadata else 0.0
    sure = [a.confidence for result in results for a in result.alternatives[:1] if a.confidence > 0]
    return HeardWindow(
        tuple(segment for segment in segments if segment.text),
        next((result.language_code for result in results if result.language_code), ""),
        billed or window.seconds,
        tuple(sure),
    )


def _segments(window: Window, result: Any) -> list[Segment]:
    best = result.alternatives[0]
    text = " ".join(best.transcript.split())
    words = [
        (
            info.word,
            info.start_offset.total_seconds(),
            info.end_offset.total_seconds(),
            _sure(info.confidence),
        )
        for info in best.words
        if info.word.strip() and info.end_offset is not None
    ]
    first, last = window.utterances[0], window.utterances[-1]
    if not words or not any(end for _, _, end, _ in words):
        end = last.end / RATE
        if result.result_end_offset:
            end = min(end, _moment(window, result.result_end_offset.total_seconds()))
        return [Segment(window.lane, first.voice, first.start / RATE, max(end, first.start / RATE), text)]
    placed = windows.in_place(words, [(item.start, item.end) for item in window.utterances])
    out = []
    for item, mine in zip(window.utterances, placed, strict=True):
        if mine:
            told = tuple(Word(word, start, end, sure) for word, start, end, sure in mine)
            written = " ".join(word.text for word in told)
            out.append(Segment(item.lane, item.voice, told[0].start, told[-1].end, written, told))
    if not _same(text, " ".join(word for word, *_ in words)):
        # The transcript is what people read: where the words are not its words, they only give it its time.
        return [Segment(window.lane, out[0].voice, out[0].start, out[-1].end, text, _all_words(out))]
    return out


def _all_words(segments: Sequence[Segment]) -> tuple[Word, ...]:
    return tuple(word for segment in segments for word in segment.words)


def _moment(window: Window, offset: float) -> float:
    """Return a time within a window as a time of the recording."""
    spans = [(item.start / RATE, item.end / RATE) for item in window.utterances]
    for (begin, end), (start, until) in zip(spans, windows.places(spans), strict=True):
        if offset <= until:
            return min(end, begin + max(0.0, offset - start))
    return spans[-1][1]


def _same(one: str, other: str) -> bool:
    return _letters(one) == _letters(other)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _sure(confidence: float) -> float | None:
    """Return a confidence; 0 is how the service says that it has none."""
    return min(1.0, confidence) if confidence > 0 else None
