"""Decodes whatever a provider sent into 16 kHz int16 lanes, one per channel, in chunks.

Runs inside the sandbox only. Trusts decoded samples, never headers: length, channels and rate are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import av
import av.container
import av.error
import numpy as np
import soxr
from numpy.typing import NDArray

from trunkline_audio.media.preprocess.timeline import RATE
from trunkline_audio.workers.handlers import HandlerFailed

FORMATS = "wav,w64,aiff,au,mp3,flac,ogg,matroska,webm,mov,mp4,m4a,3gp,aac,amr"
"""Containers that hold sound and name no other file: no concat, hls, dash, playlist or image formats."""

OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}

# Tags in some old encoding are no reason to refuse the sound; PyAV 19 takes them without being asked.
TOLERANT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}

MAX_BAD_PACKETS = 1000
SAME_SIGNAL = 1e-4
"""Two channels whose difference holds less than this part of their energy (-40 dB) are one signal."""

Floats = NDArray[np.float32]


@dataclass
class Decoded:
    """What was found in the bytes; `samples` are at `RATE`, `lanes` files were written."""

    format: str = ""
    channels: int = 0
    sample_rate: int = 0
    samples: int = 0
    bad_packets: int = 0
    lanes: int = 0
    _energy: float = field(default=0.0, repr=False)
    _difference: float = field(default=0.0, repr=False)

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return self.samples / RATE

    @property
    def one_signal(self) -> bool:
        """Whether two lanes carry the same sound (a mono call in a stereo file)."""
        return self.lanes == 2 and self._difference <= SAME_SIGNAL * self._energy

    def note(self, lanes: list[Floats]) -> None:
        """Counts a block of the two lanes towards `one_signal`."""
        if len(lanes) == 2:
            self._energy += float(np.square(lanes[0]).sum() + np.square(lanes[1]).sum())
            self._difference += float(np.square(lanes[0] - lanes[1]).sum())


def decode(source: BinaryIO, sinks: list[BinaryIO], max_seconds: float) -> Decoded:
    """Decodes `source` into `sinks` (one per lane, two at most; none: only counts).

    Two channels stay apart; more than two become one. Raises HandlerFailed: NOT_AUDIO, NO_SOUND, TOO_LONG.
    """
    try:
        with av.open(source, mode="r", options=OPTIONS, **TOLERANT) as container:
            return _decode(container, sinks, max_seconds)
    except (av.error.FFmpegError, ValueError) as error:
        raise HandlerFailed(
            "NOT_AUDIO", f"the bytes are not readable audio: {type(error).__name__}"
        ) from None


def _decode(container: av.container.InputContainer, sinks: list[BinaryIO], max_seconds: float) -> Decoded:
    if not container.streams.audio:
        raise HandlerFailed("NOT_AUDIO", "the bytes contain no audio stream")
    stream = container.streams.audio[0]
    stream.codec_context.thread_type = "NONE"
    found = Decoded(format=f"{container.format.name.split(',')[0]}/{stream.codec_context.name}")
    lanes: _Lanes | None = None
    shape: tuple[int, int] | None = None
    for rate, block in _blocks(container, stream, found):
        if lanes is None:
            found.channels, found.sample_rate = len(block), rate
            found.lanes = 2 if len(block) == 2 else 1
            lanes = _Lanes(found, sinks, int(max_seconds * RATE))
        if shape != (rate, len(block)):
            lanes.rate(rate)
            shape = (rate, len(block))
        lanes.write(_arranged(block, found.lanes))
    if lanes is None:
        raise HandlerFailed("NOT_AUDIO" if found.bad_packets else "NO_SOUND", "no sample could be decoded")
    lanes.finish()
    return found


def _blocks(container: Any, stream: Any, found: Decoded) -> Iterator[tuple[int, Floats]]:
    """Sample rate and (channels, samples) float32 in -1..1 of each frame; broken packets are skipped."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            frames = packet.decode()
        except StopIteration:
            return
        except av.error.InvalidDataError:
            found.bad_packets += 1
            if found.bad_packets > MAX_BAD_PACKETS:
                return
            continue
        except av.error.EOFError:
            return
        for frame in frames:
            if frame.samples and frame.sample_rate > 0:
                yield frame.sample_rate, _floats(frame)


def _floats(frame: Any) -> Floats:
    channels = frame.layout.nb_channels
    raw = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, channels).T
    if raw.dtype == np.uint8:
        samples = (raw.astype(np.float32) - 128.0) / 128.0
    elif np.issubdtype(raw.dtype, np.integer):
        samples = raw.astype(np.float32) / float(-np.iinfo(raw.dtype).min)
    else:
        samples = raw.astype(np.float32)
    finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return np.asarray(np.clip(finite, -1.0, 1.0), np.float32)


def _arranged(block: Floats, lanes: int) -> list[Floats]:
    if lanes == 2:
        return [block[0], block[1]] if len(block) == 2 else [block.mean(axis=0)] * 2
    return [block.mean(axis=0) if len(block) > 1 else block[0]]


class _Lanes:
    """Resamples each lane and writes it; a change of rate on the way starts new resamplers."""

    def __init__(self, found: Decoded, sinks: list[BinaryIO], max_samples: int) -> None:
        self._found = found
        self._sinks = sinks
        self._max = max_samples
        self._resamplers: list[soxr.ResampleStream] = []

    def rate(self, rate: int) -> None:
        self.finish()
        self._resamplers = [
            soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="HQ")
            for _ in range(self._found.lanes)
        ]

    def write(self, lanes: list[Floats], *, last: bool = False) -> None:
        done = [
            resampler.resample_chunk(np.ascontiguousarray(lane), last=last)
            for resampler, lane in zip(self._resamplers, lanes, strict=True)
        ]
        self._found.samples += len(done[0])
        if self._found.samples > self._max:
            raise HandlerFailed("TOO_LONG", f"the recording is longer than {self._max / RATE:g} s")
        self._found.note(done)
        for sink, lane in zip(self._sinks, done, strict=False):
            sink.write(np.clip(np.rint(lane * 32768.0), -32768, 32767).astype("<i2").tobytes())

    def finish(self) -> None:
        if self._resamplers:
            self.write([np.zeros(0, np.float32)] * len(self._resamplers), last=True)
            self._resamplers = []
