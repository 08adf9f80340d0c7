"""The one interface of what keeps the bytes of recordings."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
CHUNK = 256 * 1024
"""The most bytes of a piece."""


@dataclass(frozen=True)
class BlobStat:
    """What was kept: size in bytes and hexadecimal SHA-256."""

    size: int
    sha256: str


class BlobNotFound(Exception):
    """There is no blob with this key."""


class Blobs(Protocol):
    """Keeps bytes under keys such as `acme/recordings/abc`. A blob is there wholly or not at all.

    A key of another form is a ValueError. A disk that fails is an OSError, and a bucket that does not answer or
    refuses is Unavailable.
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> BlobStat:
        """Keeps what `chunks` give, replacing what was there; durable when it returns."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` until before `end`, in pieces of at most CHUNK; what lies past the blob is left out.

        Raises BlobNotFound before the first piece, or later when the blob is deleted meanwhile.
        """

    async def size(self, key: str) -> int:
        """The bytes of a blob. Raises BlobNotFound."""

    async def delete(self, key: str) -> bool:
        """Deletes a blob; False when there was none."""

    async def delete_folder(self, folder: str, most: int) -> int:
        """Deletes blobs under a folder, half-written ones too, `most` at most, and the folder when it is empty."""

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The blob as a file on this machine, to be read only, while the block lasts. Raises BlobNotFound."""


def checked(key: str) -> str:
    """Return the key. Raises ValueError when it has not the form of one."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no blob key")
    return key


def checked_range(start: int, end: int | None) -> None:
    """Raise ValueError for a range that counts from the end, or backwards."""
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"{start} to {end} is no range of a blob")
