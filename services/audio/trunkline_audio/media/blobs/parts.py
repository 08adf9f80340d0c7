"""Writes what comes in pieces to a file that is not a blob yet, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

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
    file: IO[bytes] | None = None
    try:
        async for chunk in chunks:
            size += len(chunk)
            held += len(chunk)
            digest.update(chunk)
            waiting.append(chunk)
            if held >= CHUNK:
                file = await asyncio.to_thread(_write, part, file, waiting)
                waiting, held = [], 0
        await asyncio.to_thread(_end, part, file, waiting, finish)
    except BaseException:
        _drop(part, file)
        raise
    return BlobStat(size, digest.hexdigest())


def new_file(path: Path) -> IO[bytes]:
    """Open a file that must not be there yet, and make its folder when that is missing."""
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def _write(part: Path, file: IO[bytes] | None, chunks: list[bytes]) -> IO[bytes]:
    """Write to the file, which is made when it is not open yet."""
    if file is None:
        file = new_file(part)
    try:
        file.writelines(chunks)
    except BaseException:
        file.close()
        raise
    return file


def _drop(part: Path, file: IO[bytes] | None) -> None:
    with contextlib.suppress(OSError):  # closing may find the disk full once more
        if file is not None:
            file.close()
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


def _end(
    part: Path, file: IO[bytes] | None, chunks: list[bytes], finish: Callable[[IO[bytes]], None] | None
) -> None:
    with _write(part, file, chunks) as written:
        if finish is not None:
            finish(written)
