"""Decodes whatever a provider sent into 16 kHz int16 lanes, one per channel, in chunks.

Runs inside the sandbox only. Trusts decoded samples, never headers: length, channels and rate are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import av
import av.container
import av.error
import numpy as np
import soxr
from numpy.typing import NDArray

from trunkline_audio.media.preprocess import wav_parts
from trunkline_audio.media.preprocess.copies import Copies
from trunkline_audio.media.preprocess.timeline import RATE
from trunkline_audio.workers.handlers import HandlerFailed

FORMATS = "wav,w64,aiff,au,caf,voc,mp3,flac,ogg,matroska,webm,mov,mp4,m4a,3gp,aac,amr,ac3,eac3,wv,tta,asf,avi,mpegts"
"""Containers that hold sound and name no other file: no concat, hls, dash, playlist or image formats."""

OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}

# Tags in some old encoding are no reason to refuse the sound; PyAV 19 takes them without being asked.
TOLERANT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
_HEAD = 256
_TEXT = frozenset(b"\t\n\r\x0c" + bytes(range(0x20, 0x7F)) + b"\xef\xbb\xbf")

MAX_BAD_PACKETS = 1000
BLOCK = 1 << 15
"""Samples of a channel that are converted at a time."""
HEADERLESS = {"mulaw": "mulaw", "alaw": "alaw", "gsm": "gsm"}
"""What telephone systems write without a header, mono at 8 kHz, and its demuxer."""
# Whatever begins so has a header, also where the source says that its recordings have none.
_MAGIC = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"FORM",
    b".snd",
    b"caff",
    b"ID3",
    b"fLaC",
    b"OggS",
    b"#!AMR",
    b"\x1aE\xdf\xa3",
)

# Samples a second that are believed. Of one a second, 14 kB would be four hours of sound to look for speech in.
_RATES = range(1_000, 768_001)
# What decoding may cost, in samples of all channels for each second that a recording may last: 48 kHz in stereo. A
# frame costs as much as so many samples, however short it is (Opus has 120 of them at least).
_MOST_SAMPLES = 96_000
_FRAME_SAMPLES = 240

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
    _copies: Copies = field(default_factory=Copies, repr=False)

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return self.samples / RATE

    @property
    def one_signal(self) -> bool:
        """Whether two lanes carry the same sound (a mono call in a stereo file)."""
        return self.lanes == 2 and self._copies.are_one

    def note(self, lanes: list[Floats]) -> None:
        """Counts a block of the two lanes towards `one_signal`."""
        if len(lanes) == 2:
            self._copies.note(lanes[0], lanes[1])


def decode(
    source: BinaryIO,
    sinks: list[BinaryIO],
    max_seconds: float,
    headerless: str = "",
    options: Mapping[str, str] = OPTIONS,
) -> Decoded:
    """Decodes `source` into `sinks` (one per lane, two at most; none: only counts).

    Two channels stay apart; more than two become one. Files that lie one after another in one are all decoded. A file
    that has a header and no sample is 0 s long. `headerless` is one of HEADERLESS, for bytes without a known beginning.
    `options` are what the demuxers are held to. Raises HandlerFailed: NOT_AUDIO, TOO_LONG, SAMPLE_RATE.
    """
    found = Decoded()
    lanes = _Lanes(found, sinks, int(max_seconds * RATE))
    if headerless and not _has_header(source):
        raw = HEADERLESS[headerless]
        of_raw = {**options, "format_whitelist": raw, "sample_rate": "8000"}
        _decode(source, lanes, of_raw, format=raw)
    else:
        for part in wav_parts.sources(source):
            _decode(part, lanes, options)
    lanes.finish()
    if not found.samples and found.bad_packets:
        raise HandlerFailed("NOT_AUDIO", "no sample could be decoded")
    return found


def _has_header(source: BinaryIO) -> bool:
    """Say whether bytes are no bare samples: a known beginning, or text, such as a web page."""
    head = source.read(_HEAD)
    source.seek(0)
    return head.startswith(_MAGIC) or head[4:8] == b"ftyp" or all(byte in _TEXT for byte in head)


def _decode(source: BinaryIO, lanes: _Lanes, options: Mapping[str, str], **how: Any) -> None:
    try:
        with av.open(source, mode="r", options=dict(options), **TOLERANT, **how) as container:
            _read(container, lanes)
    except (av.error.FFmpegError, ValueError):
        lanes.finish()
        if lanes.found.samples:  # of a file before this one
            lanes.found.bad_packets += 1
            return
        raise HandlerFailed("NOT_AUDIO", "the bytes are not readable audio") from None


def _read(container: av.container.InputContainer, lanes: _Lanes) -> None:
    if not container.streams.audio:
        raise HandlerFailed("NOT_AUDIO", "the bytes contain no audio stream")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise HandlerFailed("NOT_AUDIO", "the sound is in a codec that is not known")
    stream.codec_context.thread_type = "NONE"
    name = f"{container.format.name.split(',')[0]}/{stream.codec_context.name}"
    lanes.begin(name, stream.codec_context.channels, stream.codec_context.sample_rate)
    for frame in _frames(container, stream, lanes.found):
        lanes.take(frame)


def _frames(container: Any, stream: Any, found: Decoded) -> Iterator[Any]:
    """Frames that hold sound; broken packets are skipped."""
    packets = container.demux(stream)
    decode_packet = stream.codec_context.decode
    while True:
        try:
            frames = decode_packet(next(packets))
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
                yield frame


def _floats(frame: Any) -> Floats:
    """The samples of a frame, (channels, samples) in -1..1."""
    raw = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    samples: Floats = raw.astype(np.float32, copy=False)
    if raw.dtype == np.uint8:
        samples -= 128.0
        samples /= 128.0
    elif np.issubdtype(raw.dtype, np.integer):
        samples /= float(-np.iinfo(raw.dtype).min)
    elif not (samples.min() >= -1.0 and samples.max() <= 1.0):  # also where one is no number
        np.nan_to_num(samples, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
        np.clip(samples, -1.0, 1.0, out=samples)
    return samples


def _integers(lane: Floats) -> bytes:
    scaled = lane * 32768.0
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768, 32767, out=scaled)
    return scaled.astype("<i2").tobytes()


def _arranged(block: Floats, lanes: int) -> list[Floats]:
    if lanes == 2:
        return [block[0], block[1]] if len(block) == 2 else [block.mean(axis=0)] * 2
    return [block.mean(axis=0) if len(block) > 1 else block[0]]


class _Lanes:
    """Resamples each lane and writes it; a change of rate or format on the way starts new resamplers.

    Frames are small, 20 ms of some formats: they are gathered in libav, and numpy sees blocks of them.
    """

    def __init__(self, found: Decoded, sinks: list[BinaryIO], max_samples: int) -> None:
        self.found = found
        self._sinks = sinks
        self._max = max_samples
        self._left = max_samples // RATE * _MOST_SAMPLES
        self._shape: tuple[int, str, str] | None = None
        self._heard = False
        self._gathered = av.AudioFifo()
        self._resamplers: list[soxr.ResampleStream] = []

    def begin(self, name: str, channels: int, rate: int) -> None:
        """Take what a header says, until a sample says otherwise."""
        if not self._heard:
            self.found.format, self.found.channels, self.found.sample_rate = name, channels, rate
            self.found.lanes = 2 if channels == 2 else 1

    def take(self, frame: Any) -> None:
        """Take a frame. Raises HandlerFailed for an absurd rate, or too many samples."""
        if frame.sample_rate not in _RATES:
            raise HandlerFailed(
                "SAMPLE_RATE",
                f"the recording has {frame.sample_rate:,} samples a second, and {_RATES[0]:,} to {_RATES[-1]:,} can be"
                " decoded",
            )
        self._left -= max(frame.samples * frame.layout.nb_channels, _FRAME_SAMPLES)
        if self._left < 0:
            raise HandlerFailed(
                "TOO_LONG",
                f"the recording has too many samples: {self._max / RATE:g} s at 48 kHz in two channels are decoded",
            )
        shape = (frame.sample_rate, frame.layout.name, frame.format.name)
        if self._shape != shape:
            self.finish()
            self.begin(self.found.format, frame.layout.nb_channels, frame.sample_rate)
            self._shape, self._heard = shape, True
            self._gathered = av.AudioFifo()
            self._resamplers = [
                soxr.ResampleStream(frame.sample_rate, RATE, 1, dtype="float32", quality="HQ")
                for _ in range(self.found.lanes)
            ]
        frame.pts = None  # samples follow one another, whatever their times say
        self._gathered.write(frame)
        if self._gathered.samples >= BLOCK:
            self._write_gathered()

    def finish(self) -> None:
        """Write what was gathered, and what the resamplers hold."""
        if self._shape is not None:
            self._shape = None
            self._write_gathered()
            self._write([np.zeros(0, np.float32)] * len(self._resamplers), last=True)

    def _write_gathered(self) -> None:
        if (block := self._gathered.read()) is not None:
            self._write(_arranged(_floats(block), self.found.lanes))

    def _write(self, lanes: list[Floats], *, last: bool = False) -> None:
        done = [
            resampler.resample_chunk(np.ascontiguousarray(lane), last=last)
            for resampler, lane in zip(self._resamplers, lanes, strict=True)
        ]
        self.found.samples += len(done[0])
        if self.found.samples > self._max:
            raise HandlerFailed("TOO_LONG", f"the recording is longer than {self._max / RATE:g} s")
        self.found.note(done)
        for sink, lane in zip(self._sinks, done, strict=False):
            sink.write(_integers(lane))
