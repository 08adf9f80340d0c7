"""Where the bytes of recordings lie: one small interface, and a local folder behind it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Protocol

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
CHUNK = 256 * 1024


@dataclass(frozen=True)
class BlobStat:
    """What was kept: size in bytes and hexadecimal SHA-256."""

    size: int
    sha256: str


class BlobNotFound(Exception):
    """There is no blob with this key."""


class Blobs(Protocol):
    """Keeps bytes under keys such as `acme/recordings/abc`. A blob is there wholly or not at all."""

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> BlobStat:
        """Keeps what `chunks` give, replacing what was there; durable when it returns."""

    async def delete(self, key: str) -> bool:
        """Deletes a blob; False when there was none."""

    async def delete_folder(self, folder: str, most: int) -> int:
        """Deletes blobs under a folder, half-written ones too, `most` at most, and the folder when it is empty."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Gives the bytes from `start` to before `end` (None: to the last) in pieces of at most CHUNK bytes.

        Raises BlobNotFound before the first piece.
        """

    async def size(self, key: str) -> int:
        """The number of bytes. Raises BlobNotFound."""

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The blob as a file on this machine, to be read only, while the block lasts. Raises BlobNotFound."""


class LocalBlobs:
    """Blobs as files under one folder: written beside, synced, renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        # A path takes longer to make than its file to be found.
        self._path = lru_cache(maxsize=256)(self._path_of)
        self._lasting: set[Path] = set()  # folders whose own entries are on the disk

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> BlobStat:
        """Keeps what `chunks` give; nothing of it stays when they fail. Raises OSError when the disk does."""
        path = self._path(key)
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        digest = hashlib.sha256()
        size = 0
        # What comes in little pieces is written in large ones: each costs a trip to a thread.
        waiting: list[bytes] = []
        file: IO[bytes] | None = None
        try:
            async for chunk in chunks:
                size += len(chunk)
                digest.update(chunk)
                waiting.append(chunk)
                if sum(map(len, waiting)) >= CHUNK:
                    file = await asyncio.to_thread(_write, part, file, waiting)
                    waiting = []
            await asyncio.to_thread(_commit, part, file, waiting, path)
            if path.parent not in self._lasting:
                # The folder's own entry too: it may have been made just now.
                await asyncio.to_thread(_sync_folder, path.parent.parent)
                self._lasting.add(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # closing may find the disk full once more
                if file is not None:
                    file.close()
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        return BlobStat(size, digest.hexdigest())

    async def delete(self, key: str) -> bool:
        """Deletes a blob; False when there was none."""
        return await asyncio.to_thread(_remove, self._path(key))

    async def delete_folder(self, folder: str, most: int) -> int:
        """Deletes files under a folder, and the folder when it is empty; how many."""
        return await asyncio.to_thread(_remove_folder, self._path(folder), most)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Gives the bytes of the file; raises BlobNotFound before the first."""
        file = await asyncio.to_thread(_opened, self._path(key), start)
        if file is None:
            raise BlobNotFound(key)
        with file:
            left = None if end is None else max(0, end - start)
            while left is None or left:
                piece = await asyncio.to_thread(file.read, CHUNK if left is None else min(CHUNK, left))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece

    async def size(self, key: str) -> int:
        """The size of the file."""
        try:
            return (await asyncio.to_thread(self._path(key).stat)).st_size
        except FileNotFoundError:
            raise BlobNotFound(key) from None

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """The file itself."""
        path = self._path(key)
        if not _is_there(path):  # microseconds; a trip to a thread and back takes a hundred
            raise BlobNotFound(key)
        yield path

    def _path_of(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no blob key")
        return self._root / key


def _is_there(path: Path) -> bool:
    return os.path.isfile(path)  # a path's own method takes four times as long


def _opened(path: Path, start: int) -> IO[bytes] | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    file.seek(start)
    return file


def _write(part: Path, file: IO[bytes] | None, chunks: list[bytes]) -> IO[bytes]:
    """Write to the file, which is made when it is not open yet."""
    if file is None:
        try:
            file = part.open("xb")
        except FileNotFoundError:
            part.parent.mkdir(parents=True, exist_ok=True)
            file = part.open("xb")
    try:
        file.writelines(chunks)
    except BaseException:
        file.close()
        raise
    return file


def _commit(part: Path, file: IO[bytes] | None, chunks: list[bytes], path: Path) -> None:
    with _write(part, file, chunks) as written:
        written.flush()
        os.fsync(written.fileno())
    part.replace(path)
    _sync_folder(path.parent)


def _remove_folder(folder: Path, most: int) -> int:
    removed = 0
    for path in sorted(folder.rglob("*"), reverse=True):  # what lies in a folder comes before it
        if path.is_dir():
            path.rmdir()
        elif removed == most:
            return removed
        else:
            path.unlink(missing_ok=True)
            removed += 1
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
        _sync_folder(folder.parent)
    return removed


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    _sync_folder(path.parent)
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
