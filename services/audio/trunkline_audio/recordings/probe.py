"""Finds out what kept bytes are, in the sandbox; bytes that cannot be read do not stay."""

from __future__ import annotations

import asyncio
from pathlib import Path

from trunkline_runtime.engines.base import EngineError

from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.media.preparation import Examined, Preparer
from trunkline_audio.recordings.non_audio import HEAD_BYTES

NOT_AUDIO = "NOT_AUDIO"


class Unreadable(Exception):
    """Bytes could not be examined: `error` says why. `head` are the first of them when they are no audio."""

    def __init__(self, error: EngineError, head: bytes = b"") -> None:
        super().__init__(str(error))
        self.error = error
        self.head = head

    @property
    def no_audio(self) -> bool:
        """Whether the bytes are something else than audio."""
        return self.error.reason == NOT_AUDIO


class Probe:
    """Examines blobs."""

    def __init__(self, blobs: Blobs, preparer: Preparer) -> None:
        self._blobs = blobs
        self._preparer = preparer

    async def examine(self, key: str, tenant: str, headerless: str) -> Examined:
        """Tell what a tenant's blob is. Raises Unreadable; the blob is then deleted: another try brings its own."""
        try:
            async with self._blobs.local(key) as path:
                return await self._preparer.examine(path, tenant, headerless)
        except EngineError as error:
            head = await self._head(key) if error.reason == NOT_AUDIO else b""
            await self._blobs.delete(key)
            raise Unreadable(error, head) from None

    async def _head(self, key: str) -> bytes:
        async with self._blobs.local(key) as path:
            return await asyncio.to_thread(_head, path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
