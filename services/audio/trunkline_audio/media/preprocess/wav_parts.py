"""WAV files as recorders write them: several in one file, and chunks of odd length without their padding.

A decoder reads the first file and stops, or loses its way. Here the chunks are walked, and each part is shown to the
decoder as a file of its own.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MOST_PARTS = 1_000
"""In one file; what lies behind them is left."""
_MOST_CHUNKS = 1_000
_KEPT_MOST = 64 * 1024
_KEPT = (b"fmt ", b"fact")
# Of a recorder that did not come back to write the length, or could not know it.
_STREAMED = (0, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class WavFile:
    """One WAV file: the chunks that describe its samples, and where these are."""

    head: bytes
    start: int
    end: int
    plain: bool
    """Whether a decoder finds its way by itself."""


def parts(source: BinaryIO) -> list[WavFile]:
    """Return the WAV files that lie one after another; none where the first is no ordinary one."""
    size = source.seek(0, os.SEEK_END)
    found: list[WavFile] = []
    at = 0
    while at < size and len(found) < MOST_PARTS:
        part = _part(source, at, size)
        if part is None:
            break
        found.append(part)
        at = next_file(source, part.end, size)
    source.seek(0)
    return found


def opened(source: BinaryIO, part: WavFile) -> BinaryIO:
    """Return a part as a file."""
    length = min(part.end - part.start, 0xFFFFFFFF - len(part.head) - 12)
    body = part.head + b"data" + struct.pack("<I", length)
    head = b"RIFF" + struct.pack("<I", 4 + len(body) + length) + b"WAVE" + body
    return io.BufferedReader(_Spliced(head, source, part.start, part.start + length))


def _part(source: BinaryIO, at: int, size: int) -> WavFile | None:
    source.seek(at)
    riff = source.read(12)
    if len(riff) < 12 or riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        return None
    head, plain = b"", True
    at += 12
    for _ in range(_MOST_CHUNKS):
        chunk = _chunk(source, at, size)
        if chunk is None:
            return None
        name, length = chunk
        at += 8
        if name == b"data":
            streamed = length in _STREAMED or at + length > size
            return WavFile(head, at, size if streamed else at + length, plain) if head else None
        if name in _KEPT:
            source.seek(at)
            head += name + struct.pack("<I", length) + source.read(min(length, _KEPT_MOST))
            head += b"\0" * (length & 1)
        at += length
        if length & 1:
            padded = _chunk(source, at + 1, size)
            bare = padded is None and _chunk(source, at, size) is not None
            plain &= not bare
            at += 0 if bare else 1
        if len(head) > _KEPT_MOST:
            return None
    return None


def next_file(source: BinaryIO, at: int, size: int) -> int:
    """Return where the next file begins: behind the samples, or behind further chunks; `size` when there is none.

    `at` is where the samples of one end. At most `_MOST_CHUNKS` chunks are looked at: milliseconds.
    """
    for _ in range(_MOST_CHUNKS):
        for start in (at, at + 1):
            source.seek(start)
            head = source.read(12)
            if head[:4] == b"RIFF" and head[8:] == b"WAVE":
                return start
        at += at & 1
        chunk = _chunk(source, at, size)
        if chunk is None:
            break
        at += 8 + chunk[1]
    return size


def _chunk(source: BinaryIO, at: int, size: int) -> tuple[bytes, int] | None:
    """Return name and length of the chunk at a place; None where none can begin."""
    if at + 8 > size:
        return None
    source.seek(at)
    name, length = struct.unpack("<4sI", source.read(8))
    return (name, length) if all(0x20 <= letter < 0x7F for letter in name) else None


class _Spliced(io.RawIOBase):
    """A head, and then a stretch of another file."""

    def __init__(self, head: bytes, source: BinaryIO, start: int, end: int) -> None:
        self._head = head
        self._source = source
        self._start = start
        self._size = len(head) + end - start
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, most: int) -> bytes:
        if self._at < len(self._head):
            return self._head[self._at : self._at + most]
        self._source.seek(self._start + self._at - len(self._head))
        return self._source.read(max(0, min(most, self._size - self._at)))


def sources(source: BinaryIO) -> Iterator[BinaryIO]:
    """Yield what a decoder is to read, one after another: the file itself, unless it is more than that."""
    found = parts(source)
    if len(found) > 1 or (found and not found[0].plain):
        for part in found:
            yield opened(source, part)
    else:
        yield source
