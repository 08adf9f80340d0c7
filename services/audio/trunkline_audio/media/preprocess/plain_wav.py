"""Tells what an ordinary WAV file is by counting its bytes, in memory-safe code that needs no sandbox.

Most recordings of telephone providers are such files: a fork, and a decoder that copies every sample, would
find out no more than their length says. Whatever is unusual is left to the sandboxed decoder.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trunkline_audio.media.preprocess.wav_parts import next_file

_HEAD_MOST = 64 * 1024
_HEADER = 44
# Format tag and bits of a sample, and the name that the decoder gives them.
_CODECS = {
    (1, 8): "pcm_u8",
    (1, 16): "pcm_s16le",
    (1, 24): "pcm_s24le",
    (1, 32): "pcm_s32le",
    (6, 8): "pcm_alaw",
    (7, 8): "pcm_mulaw",
}


@dataclass(frozen=True)
class PlainWav:
    """What the file is; `frames` are samples of one channel."""

    codec: str
    channels: int
    sample_rate: int
    frames: int


def look(path: Path) -> PlainWav | None:
    """Return what a file is; None when it is no WAV, or one whose header and bytes do not wholly agree."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _look(file, size)
        except struct.error:
            return None


def _look(file: BinaryIO, size: int) -> PlainWav | None:
    riff, _, wave = struct.unpack("<4sI4s", file.read(12))
    if (riff, wave) != (b"RIFF", b"WAVE"):
        return None
    shape: tuple[str, int, int, int] | None = None
    while file.tell() < min(size, _HEAD_MOST):
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            counted = _counted(shape, length, size - file.tell())
            # Behind the samples there may be whole files; what these are is not looked at here.
            end = file.tell() + length
            alone = counted is None or size - end < _HEADER or next_file(file, end, size) == size
            return counted if alone else None
        if name == b"fmt " and shape is None:
            shape = _shape(file.read(16), length)
            length -= 16
        elif name == b"fmt ":
            return None
        file.seek(length + (length & 1), os.SEEK_CUR)
    return None


def _shape(fields: bytes, length: int) -> tuple[str, int, int, int] | None:
    """Return codec, channels, rate and bytes of a frame."""
    tag, channels, rate, _, align, bits = struct.unpack("<HHIIHH", fields)
    codec = _CODECS.get((tag, bits))
    usual = length in (16, 18) and channels in (1, 2) and 4000 <= rate <= 192_000
    if codec is None or not usual or align != channels * bits // 8:
        return None
    return codec, channels, rate, align


def _counted(shape: tuple[str, int, int, int] | None, length: int, there: int) -> PlainWav | None:
    if shape is None or not 0 < length <= there:
        return None
    codec, channels, rate, align = shape
    if length % align:
        return None
    return PlainWav(codec, channels, rate, length // align)
