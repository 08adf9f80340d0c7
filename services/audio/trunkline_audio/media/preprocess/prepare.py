"""The sandboxed job: decode, find speech, cut it into utterances; a handler for worker processes."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from trunkline_audio.media.preprocess import decode as decoding
from trunkline_audio.media.preprocess.speakers import voices
from trunkline_audio.media.preprocess.timeline import RATE, SampleRange, merged
from trunkline_audio.media.preprocess.vad import BLOCK, FRAME, VoiceActivity, split, without_leaks
from trunkline_audio.workers import frames
from trunkline_audio.workers.handlers import HandlerFailed
from trunkline_audio.workers.sandbox import SandboxLimits, run_limited

Samples = NDArray[np.int16]


def handler(options: Mapping[str, str] = decoding.OPTIONS) -> Callable[[frames.Message], frames.Message]:
    """A warm handler: every library and model is loaded before the first fork. `options` are those of `decode`."""
    activity = VoiceActivity()
    _warm(activity)

    def handle(request: frames.Message) -> frames.Message:
        limits = SandboxLimits(
            cpu_seconds=int(request["cpu_seconds"]),
            wall_seconds=float(request["wall_seconds"]),
            memory_bytes=int(request["memory_bytes"]),
            file_bytes=int(float(request["max_seconds"]) * RATE * 2) + (1 << 20),
        )
        return run_limited(
            lambda close_the_door: _prepare(request, activity, close_the_door, options), limits
        )

    return handle


def _prepare(
    request: frames.Message,
    activity: VoiceActivity,
    close_the_door: Callable[[], None],
    options: Mapping[str, str],
) -> frames.Message:
    """Decodes `path`; with `scratch` set, writes lanes `scratch`.0 and .1 and finds their speech."""
    with ExitStack() as files:
        source = files.enter_context(Path(str(request["path"])).open("rb"))
        scratch = request.get("scratch")
        lanes: list[BinaryIO] = []
        if scratch is not None:
            lanes = [files.enter_context(Path(f"{scratch}.{lane}").open("w+b")) for lane in range(2)]
        close_the_door()
        found = decoding.decode(
            source,
            lanes,
            float(request["max_seconds"]),
            headerless=str(request["headerless"]),
            options=options,
        )
        reply: frames.Message = {
            "format": found.format,
            "channels": found.channels,
            "sample_rate": found.sample_rate,
            "seconds": found.seconds,
            "bad_packets": found.bad_packets,
        }
        if lanes:
            used = lanes[: 1 if found.one_signal else found.lanes]
            for lane in lanes:
                lane.flush()
            reply.update(
                _speech(used, found.samples, activity, int(float(request["utterance_seconds"]) * RATE))
            )
        return reply


def _speech(lanes: list[BinaryIO], total: int, activity: VoiceActivity, longest: int) -> frames.Message:
    scores = [activity.scores(_chunks(lane)) for lane in lanes]
    if len(lanes) == 2:
        energies = [
            np.concatenate([np.zeros(0, np.float32), *map(_energies, _chunks(lane))]) for lane in lanes
        ]
        scores = without_leaks(scores, energies)
    spans = [activity.spans(lane_scores, total) for lane_scores in scores]
    utterances = [
        (lane, part)
        for lane, lane_spans in enumerate(spans)
        for span in lane_spans
        for part in split(span, scores[lane], longest)
    ]
    speakers = [0] * len(utterances)
    if len(lanes) == 1:
        speakers = voices(lanes[0], [part for _, part in utterances])
    speech = merged(span for lane_spans in spans for span in lane_spans)
    return {
        "lanes": len(lanes),
        "speech_seconds": sum(span.seconds for span in speech),
        "utterances": [
            [lane, part.start, part.end, speaker]
            for (lane, part), speaker in zip(utterances, speakers, strict=True)
        ],
    }


def _chunks(lane: BinaryIO) -> Iterator[Samples]:
    lane.seek(0)
    while data := lane.read(BLOCK * 2):
        yield np.frombuffer(data, "<i2").astype(np.int16, copy=False)


def _energies(chunk: Samples) -> NDArray[np.float32]:
    padded = np.zeros(-(-len(chunk) // FRAME) * FRAME, np.float32)
    padded[: len(chunk)] = chunk
    return np.asarray(np.square(padded.reshape(-1, FRAME)).mean(axis=1), np.float32)


def _warm(activity: VoiceActivity) -> None:
    """Runs a second of sound through every library, since some load their parts only when first used."""
    body = io.BytesIO()
    with wave.open(body, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        noise = np.random.default_rng(0).integers(-2000, 2000, (8000, 2)).astype("<i2")
        writer.writeframes(noise.tobytes())
    body.seek(0)
    lanes: list[BinaryIO] = [io.BytesIO(), io.BytesIO()]
    found = decoding.decode(body, lanes, 10)
    _speech(lanes, found.samples, activity, 4 * RATE)
    voices(lanes[0], [SampleRange(0, RATE // 2), SampleRange(RATE // 2, RATE)])
    try:
        decoding.decode(io.BytesIO(b"no sound"), [], 1)
    except HandlerFailed:
        return
