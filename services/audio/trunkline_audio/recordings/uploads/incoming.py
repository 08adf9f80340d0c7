"""What comes in the stream of an upload: for so long, so much, and piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from trunkline_runtime.errors import DeadlineExceeded, InvalidArgument


async def patient(chunks: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """Give what comes, as long as no pause is longer than so many seconds. Raises DeadlineExceeded."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise DeadlineExceeded(f"nothing came for {seconds:g} s", reason="UPLOAD_TOO_SLOW") from None
        if chunk is None:
            return
        yield chunk


async def bounded(chunks: AsyncIterator[bytes], size: int, most: int) -> AsyncIterator[bytes]:
    """Give what comes, up to the stated `size`, or `most` where that is 0. Raises InvalidArgument beyond it."""
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > (size or most):
            reason = "SIZE_MISMATCH" if size else "RECORDING_TOO_LARGE"
            raise InvalidArgument("data", f"more than {size or most} bytes came", reason=reason)
        yield chunk


class Pieces:
    """A stream that is taken in pieces. What fails in it ends a piece first: what came until then is kept."""

    def __init__(self, chunks: AsyncIterator[bytes], skip: int) -> None:
        self._chunks = chunks
        self._skip = skip
        self.ended = False
        self.failure: Exception | None = None

    async def piece(self, most: int) -> AsyncIterator[bytes]:
        """Give chunks until they are `most` bytes or more, or the stream ends."""
        size = 0
        while size < most:
            try:
                chunk = await anext(self._chunks, None)
            except Exception as error:
                self.failure, chunk = error, None
            if chunk is None:
                self.ended = True
                return
            passed = min(self._skip, len(chunk))
            self._skip -= passed
            if passed < len(chunk):
                chunk = chunk[passed:]
                size += len(chunk)
                yield chunk
