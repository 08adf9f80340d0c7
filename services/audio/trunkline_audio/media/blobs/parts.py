"""Writes what comes in pieces to a file that is not a blob yet, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

from trunkline_audio.media.blobs.base import CHUNK, BlobStat


async def write_part(
    part: Path, chunks: AsyncIterator[bytes], finish: Callable[[IO[bytes]], None] | None = None
) -> BlobStat:
    """Write `chunks` to a new file, made with its folder; nothing of it stays when they fail.

    `finish` gets the file in the thread of the last piece, before it is closed. Raises OSError when the disk fails.
    """
    digest = hashlib.sha256()
    size = 0
    # What comes in little pieces is written in large ones: each costs a trip to a thread.
    waiting: list[bytes] = []
    held = 0
    writing = _Part(part)
    try:
        async for chunk in chunks:
            size += len(chunk)
            held += len(chunk)
            digest.update(chunk)
            waiting.append(chunk)
            if held >= CHUNK:
                await _to_its_end(writing.write, waiting)
                waiting, held = [], 0
        await _to_its_end(writing.end, waiting, finish)
    except BaseException:
        writing.drop()
        raise
    return BlobStat(size, digest.hexdigest())


def new_file(path: Path) -> IO[bytes]:
    """Open a file that must not be there yet, and make its folder when that is missing."""
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


async def _to_its_end(work: Callable[..., None], *args: Any) -> None:
    """Do `work` in a thread. An asker that is cancelled waits for it: it would go on behind the file's removal."""
    doing = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait((doing,))
        raise


class _Part:
    """The file, which is made with its first bytes; its methods but `drop` are for a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def write(self, chunks: list[bytes]) -> None:
        self._opened().writelines(chunks)

    def end(self, chunks: list[bytes], finish: Callable[[IO[bytes]], None] | None) -> None:
        with self._opened() as written:
            written.writelines(chunks)
            if finish is not None:
                finish(written)

    def drop(self) -> None:
        with contextlib.suppress(OSError):  # closing may find the disk full once more
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = new_file(self._path)
        return self._file
