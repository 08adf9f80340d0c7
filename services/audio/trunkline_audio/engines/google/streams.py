"""Sound as people speak: over Google's streams of at most five minutes, without losing words between two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.resilience import Pauses

from trunkline_audio.engines.base import Segment, Word
from trunkline_audio.engines.google.failures import engine_error, is_end_of_stream, is_passing
from trunkline_audio.media.preprocess.timeline import RATE

PIECE_BYTES = 15_000
"""A message's sound: Google takes 25 KB, and 15 KB by an older page."""
GOES_OVER_SECONDS = 240.0
"""Of a stream: from then on the next one begins where a result ends."""
LONGEST_SECONDS = 285.0
"""Of a stream: Google ends it after 300 s."""
MOST_AGAIN_SECONDS = 60.0
"""The most sound that is sent once more, where a stream ended before its words were final."""
FAILURES = 5
"""Streams in a row that failed without a word."""

_BYTES = RATE * 2

Begin = Callable[[AsyncIterator[bytes]], Awaitable[Any]]
"""Begins a stream over pieces of sound; what comes back gives its responses."""


class SoundStream:
    """One sound over one stream after the other.

    What is not final yet is kept. A stream that has grown old ends where a result ended, and the next one begins with
    the sound behind that: no word is cut, none is heard twice. Where nobody makes a pause, it ends at its longest, and
    Google makes final what it has.
    """

    def __init__(self, sound: AsyncIterator[bytes], begin: Begin) -> None:
        self._sound = sound
        self._begin = begin
        self._held = bytearray()
        """Sound from `_from` on that is not final."""
        self._from = 0
        """Where `_held` begins, in bytes of the whole."""
        self._ended = False
        self._came = asyncio.Event()
        self._problem: BaseException | None = None

    async def segments(self) -> AsyncIterator[Segment]:
        """Give the final segments in order. Raises EngineError."""
        reading = asyncio.create_task(self._read())
        try:
            failures, pauses = 0, Pauses(0.2, 5.0)
            while not await self._is_over():
                before = self._from
                try:
                    async with aclosing(self._one()) as found:
                        async for segment in found:
                            yield segment
                    failures = 0
                    pauses.reset()
                except Exception as error:
                    if isinstance(error, EngineError) or not (is_passing(error) or is_end_of_stream(error)):
                        raise error if isinstance(error, EngineError) else engine_error(error) from None
                    failures = 0 if self._from > before else failures + 1
                    if failures == FAILURES:
                        raise engine_error(error) from None
                    self._forget(max(self._from, self._end() - round(MOST_AGAIN_SECONDS * RATE) * 2))
                    await pauses.rest()
            if self._problem is not None:
                raise self._problem
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for piece in self._sound:
                self._held += piece
                self._came.set()
        except Exception as error:  # told once all that came before is heard
            self._problem = error
        finally:
            self._ended = True
            self._came.set()

    async def _is_over(self) -> bool:
        while not self._held and not self._ended:
            self._came.clear()
            await self._came.wait()
        return not self._held

    def _end(self) -> int:
        return self._from + len(self._held)

    def _forget(self, until: int) -> None:
        """Keep no sound before `until`, in bytes of the whole."""
        until = min(until, self._end())
        del self._held[: max(0, until - self._from)]
        self._from = max(self._from, until)

    async def _one(self) -> AsyncIterator[Segment]:
        begin = self._from
        sent = _Sent(begin)
        stream = await self._begin(self._pieces(sent))
        final = begin
        async for response in stream:
            for result in response.results:
                if not result.is_final or not result.alternatives:
                    continue
                offset = result.result_end_offset.total_seconds() if result.result_end_offset else 0.0
                end = min(sent.until, begin + round(offset * RATE) * 2) if offset else sent.until
                end = max(final, end)
                segment = _segment(result, begin / _BYTES, final / _BYTES, end / _BYTES)
                final = end
                self._forget(final)
                if segment is not None:
                    yield segment
                if final - begin >= GOES_OVER_SECONDS * _BYTES:
                    sent.over.set()
                    self._came.set()
                    _cancel(stream)
                    return
        # All that was sent is heard: what no result was given for is silence.
        self._forget(sent.until)

    async def _pieces(self, sent: _Sent) -> AsyncIterator[bytes]:
        longest = sent.begin + round(LONGEST_SECONDS * RATE) * 2
        while not sent.over.is_set():
            at = sent.until - self._from
            piece = bytes(self._held[at : at + min(PIECE_BYTES, longest - sent.until)])
            if len(piece) % 2 and not self._ended:
                piece = piece[:-1]  # half a sample
            if piece:
                sent.until += len(piece)
                yield piece
            elif self._ended or sent.until >= longest:
                return
            else:
                self._came.clear()
                await self._came.wait()


class _Sent:
    """How far one stream is, in bytes of the whole."""

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.until = begin
        self.over = asyncio.Event()


def _cancel(stream: Any) -> None:
    if hasattr(stream, "cancel"):
        stream.cancel()


def _segment(result: Any, begin: float, last: float, end: float) -> Segment | None:
    """Return a result as a segment; `begin` is its stream's, and `last` the end of the result before."""
    best = result.alternatives[0]
    text = " ".join(best.transcript.split())
    if not text:
        return None
    words = []
    for info in best.words:
        if info.word.strip() and info.end_offset is not None:
            starts = info.start_offset.total_seconds() if info.start_offset is not None else 0.0
            word = (begin + starts, begin + info.end_offset.total_seconds())
            sure = min(1.0, info.confidence) if info.confidence > 0 else None
            start = min(max(last, word[0]), end)
            words.append(Word(info.word.strip(), start, min(max(start, word[1]), end), sure))
    if words:
        return Segment(0, 0, words[0].start, words[-1].end, text, tuple(words))
    return Segment(0, 0, last, end, text)
