"""Requests to Google Speech-to-Text. Pure: nothing is sent here."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import numpy as np
from numpy.typing import NDArray

from trunkline_audio.engines.google.models import ANY_LANGUAGE, google_language, traits_of
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.media.preprocess.timeline import RATE

if TYPE_CHECKING:
    from google.cloud import speech_v2

MOST_PHRASES = 5_000
MOST_PHRASE_CHARACTERS = 100
MOST_CHARACTERS = 100_000
"""Of all phrases of a request."""
_SET_PHRASES = 1_200

WORD_TIMES = "word times"
WORD_CONFIDENCE = "word confidence"
PUNCTUATION = "punctuation"
SPEAKERS = "speakers"
PHRASES = "phrases"


@dataclass(frozen=True)
class RequestHints:
    """What is asked for about a recording: its language, empty for any, and what is likely to be said in it.

    `speakers` is the most voices that are told apart, 0 for none, and `without` are features that the model refused.
    """

    language: str = ""
    phrases: tuple[str, ...] = ()
    speakers: int = 0
    without: frozenset[str] = frozenset()


def recognition_config(settings: GoogleSettings, asked: RequestHints) -> speech_v2.RecognitionConfig:
    """Return what is asked for, of sound that says itself how it is encoded."""
    from google.cloud import speech_v2  # noqa: PLC0415 -- half a second and 40 MB, for those who use it

    traits = traits_of(settings.model)
    features = speech_v2.RecognitionFeatures(
        enable_word_time_offsets=settings.word_times
        and traits.word_times
        and WORD_TIMES not in asked.without,
        enable_word_confidence=traits.word_confidence and WORD_CONFIDENCE not in asked.without,
        enable_automatic_punctuation=PUNCTUATION not in asked.without,
    )
    if asked.speakers > 1 and traits.tells_speakers(asked.language) and SPEAKERS not in asked.without:
        features.diarization_config = speech_v2.SpeakerDiarizationConfig(
            min_speaker_count=1, max_speaker_count=asked.speakers
        )
    config = speech_v2.RecognitionConfig(
        auto_decoding_config=speech_v2.AutoDetectDecodingConfig(),
        model=settings.model,
        language_codes=[language_code(settings, asked.language)],
        features=features,
    )
    if traits.phrases and PHRASES not in asked.without:
        phrases = fitting(asked.phrases)
        if phrases:
            config.adaptation = adaptation(phrases, settings.phrase_boost)
    return config


def language_code(settings: GoogleSettings, language: str) -> str:
    """Return the language that is asked for."""
    if not language:
        detects = traits_of(settings.model).detects_language
        return ANY_LANGUAGE if detects else settings.usual_language
    return google_language(language)


def fitting(phrases: Iterable[str]) -> tuple[str, ...]:
    """Return the phrases that Google takes, each once, the first ones first.

    One that is too long for Google is left out: a part of it would be another phrase.
    """
    out: dict[str, None] = {}
    characters = 0
    for phrase in phrases:
        text = " ".join(phrase.split())
        if not text or len(text) > MOST_PHRASE_CHARACTERS or text in out:
            continue
        characters += len(text)
        if len(out) == MOST_PHRASES or characters > MOST_CHARACTERS:
            break
        out[text] = None
    return tuple(out)


def adaptation(phrases: Sequence[str], boost: float) -> speech_v2.SpeechAdaptation:
    """Return phrases as sets of as many as Google takes; a boost of 0 is Google's own."""
    from google.cloud import speech_v2  # noqa: PLC0415

    sets = []
    for begin in range(0, len(phrases), _SET_PHRASES):
        values = [speech_v2.PhraseSet.Phrase(value=text) for text in phrases[begin : begin + _SET_PHRASES]]
        inline = speech_v2.PhraseSet(phrases=values, boost=boost)
        sets.append(speech_v2.SpeechAdaptation.AdaptationPhraseSet(inline_phrase_set=inline))
    return speech_v2.SpeechAdaptation(phrase_sets=sets)


def recognize_request(
    settings: GoogleSettings, asked: RequestHints, sound: bytes
) -> speech_v2.RecognizeRequest:
    """Return the request for one window: `sound` is FLAC of one channel."""
    from google.cloud import speech_v2  # noqa: PLC0415

    config = recognition_config(settings, asked)
    return speech_v2.RecognizeRequest(recognizer=settings.recognizer_name, config=config, content=sound)


def batch_request(settings: GoogleSettings, asked: RequestHints, uri: str) -> speech_v2.BatchRecognizeRequest:
    """Return the request for one file of a bucket. An inline answer is for one file only, so each has its request."""
    from google.cloud import speech_v2  # noqa: PLC0415

    strategy = speech_v2.BatchRecognizeRequest.ProcessingStrategy
    return speech_v2.BatchRecognizeRequest(
        recognizer=settings.recognizer_name,
        config=recognition_config(settings, asked),
        files=[speech_v2.BatchRecognizeFileMetadata(uri=uri)],
        recognition_output_config=speech_v2.RecognitionOutputConfig(
            inline_response_config=speech_v2.InlineOutputConfig()
        ),
        processing_strategy=strategy.DYNAMIC_BATCHING
        if settings.dynamic_batching
        else strategy.PROCESSING_STRATEGY_UNSPECIFIED,
    )


def stream_request(settings: GoogleSettings, asked: RequestHints) -> speech_v2.StreamingRecognizeRequest:
    """Return the first message of a stream of 16-bit samples at 16 kHz, of one channel."""
    from google.cloud import speech_v2  # noqa: PLC0415

    config = recognition_config(settings, asked)
    config.explicit_decoding_config = speech_v2.ExplicitDecodingConfig(
        encoding=speech_v2.ExplicitDecodingConfig.AudioEncoding.LINEAR16,
        sample_rate_hertz=RATE,
        audio_channel_count=1,
    )
    return speech_v2.StreamingRecognizeRequest(
        recognizer=settings.recognizer_name,
        streaming_config=speech_v2.StreamingRecognitionConfig(config=config),
    )


def flac(samples: NDArray[np.int16]) -> bytes:
    """Return samples at 16 kHz as a FLAC file: lossless, and a third of their size.

    Ogg Opus is a quarter of that, for 27 times the processor time: see docs/engines-speech.md.
    """
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
