"""Blobs in a local folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from cachetools import LRUCache

from trunkline_audio.media.blobs.base import CHUNK, BlobNotFound, BlobStat, checked, checked_range
from trunkline_audio.media.blobs.parts import write_part

_FOLDERS = 1_024


class LocalBlobs:
    """Blobs as files under one folder: written beside, synced, renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        # A path takes longer to make than its file to be found.
        self._path = lru_cache(maxsize=256)(self._path_of)
        # Folders whose own entries are on the disk; forgetting one costs a sync.
        self._lasting: LRUCache[Path, bool] = LRUCache(_FOLDERS)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> BlobStat:
        """Keeps what `chunks` give; nothing of it stays when they fail. Raises OSError when the disk does."""
        path = self._path(key)
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")

        def commit(written: IO[bytes]) -> None:
            written.flush()
            os.fsync(written.fileno())
            part.replace(path)
            _sync_folder(path.parent)

        kept = await write_part(part, chunks, commit)
        if path.parent not in self._lasting:
            # The folder's own entry too: it may have been made just now.
            await asyncio.to_thread(_sync_folder, path.parent.parent)
            self._lasting[path.parent] = True
        return kept

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a range; a blob that is replaced or deleted meanwhile is read to its end."""
        checked_range(start, end)
        file = await asyncio.to_thread(_open, self._path(key), start)
        try:
            left = end - start if end is not None else None
            while piece := await asyncio.to_thread(file.read, CHUNK if left is None else min(CHUNK, left)):
                if left is not None:
                    left -= len(piece)
                yield piece
        finally:
            file.close()

    async def size(self, key: str) -> int:
        """The bytes of a blob. Raises BlobNotFound."""
        path = self._path(key)
        if not _is_there(path):
            raise BlobNotFound(key)
        return os.stat(path).st_size

    async def delete(self, key: str) -> bool:
        """Deletes a blob; False when there was none."""
        return await asyncio.to_thread(_remove, self._path(key))

    async def delete_folder(self, folder: str, most: int) -> int:
        """Deletes files under a folder, and the folder when it is empty; how many."""
        path = self._path(folder)
        for known in [one for one in self._lasting if one.is_relative_to(path)]:
            del self._lasting[known]  # it may be made anew
        return await asyncio.to_thread(_remove_folder, path, most)

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """The file itself."""
        path = self._path(key)
        if not _is_there(path):  # microseconds; a trip to a thread and back takes a hundred
            raise BlobNotFound(key)
        yield path

    def _path_of(self, key: str) -> Path:
        return self._root / checked(key)


def _is_there(path: Path) -> bool:
    return os.path.isfile(path)  # a path's own method takes four times as long


def _open(path: Path, start: int) -> IO[bytes]:
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise BlobNotFound(path.name) from None
    file.seek(start)
    return file


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
