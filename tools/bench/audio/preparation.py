"""What comes before an engine: decoding ten minutes of each format, and finding the speech in an hour."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import soxr
from numpy.typing import NDArray
from trunkline_audio.media.preprocess import decode as decoding
from trunkline_audio.media.preprocess.timeline import RATE
from trunkline_audio.media.preprocess.vad import BLOCK, VoiceActivity

from tools.bench.audio.engine import CALLS, LONG

Samples = NDArray[np.int16]

FORMATS = {
    "wav": ("wav", "pcm_s16le", 8_000),
    "mulaw": ("wav", "pcm_mulaw", 8_000),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "opus": ("ogg", "libopus", 48_000),
    "flac": ("flac", "flac", 44_100),
    "aac": ("mp4", "aac", 44_100),
    "webm": ("webm", "libopus", 48_000),
}
"""Name -> container, codec, sample rate."""
FRAME = 4_800
MINUTES = 10
ROUNDS = 3


def figures() -> dict[str, float]:
    """Seconds to decode ten mono minutes of each format, the slowest as `decode600_s`; and to find an hour's speech."""
    minute = call_samples()
    taken = {f"decode600_{name}_s": _decode_seconds(minute, *how) for name, how in FORMATS.items()}
    return {**taken, "decode600_s": max(taken.values()), "vad_hour_s": _speech_seconds(minute)}


def call_samples() -> Samples:
    """The minute of a mono sample call, at 16 kHz."""
    calls = json.loads((CALLS / "calls.json").read_text(encoding="utf-8"))
    call = next(call for call in calls if call["id"] == LONG["mono60_s"])
    lane = io.BytesIO()
    with (CALLS / call["file"]).open("rb") as source:
        decoding.decode(source, [lane, io.BytesIO()], 120.0)
    return np.frombuffer(lane.getvalue(), "<i2")[: 60 * RATE]


def encoded(samples: Samples, container: str, codec: str, rate: int) -> bytes:
    """A minute at 16 kHz, ten times, as a file of another format."""
    sound = np.tile(soxr.resample(samples, RATE, rate), MINUTES)
    body = io.BytesIO()
    with av.open(body, "w", format=container) as sink:
        stream: Any = sink.add_stream(codec, rate=rate)
        stream.layout = "mono"
        for begin in range(0, len(sound), FRAME):
            frame = av.AudioFrame.from_ndarray(
                sound[begin : begin + FRAME].reshape(1, -1), format="s16", layout="mono"
            )
            frame.sample_rate = rate
            frame.pts = begin
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return body.getvalue()


def _decode_seconds(minute: Samples, container: str, codec: str, rate: int) -> float:
    body = encoded(minute, container, codec, rate)
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        decoding.decode(io.BytesIO(body), [io.BytesIO(), io.BytesIO()], 3_600.0)
        took.append(time.perf_counter() - begun)
    return min(took)


def _speech_seconds(minute: Samples) -> float:
    activity = VoiceActivity()
    hour = np.tile(minute, 60)

    def blocks() -> Iterator[Samples]:
        for begin in range(0, len(hour), BLOCK):
            yield hour[begin : begin + BLOCK]

    begun = time.perf_counter()
    activity.spans(activity.scores(blocks()), len(hour))
    return time.perf_counter() - begun
