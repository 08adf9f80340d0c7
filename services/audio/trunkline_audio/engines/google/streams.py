"""Sound as people speak: over Google's streams of at most five minutes, without losing words between two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.engines.google import is_passing
from trunkline_runtime.resilience import Pauses

from trunkline_audio.engines.base import Segment, Word
from trunkline_audio.engines.google.failures import engine_error, is_end_of_stream
from trunkline_audio.media.preprocess.timeline import RATE

PIECE_BYTES = 15_000
"""A message's sound: Google takes 25 KB, and 15 KB by an older page."""
GOES_OVER_SECONDS = 240.0
"""Of a stream: from then on the next one begins where a result ends."""
LONGEST_SECONDS = 285.0
"""Of a stream: Google ends it after 300 s."""
QUIET_SECONDS = 5.0
"""At the end of the longest stream: it ends in the quietest moment of them."""
MOST_AGAIN_SECONDS = 60.0
"""The most sound that is sent once more, where a stream ended before its words were final."""
FAILURES = 5
"""Streams in a row that failed without a word."""

_BYTES = RATE * 2
_FRAME = RATE // 10
_MOST_HELD = round(LONGEST_SECONDS + QUIET_SECONDS) * _BYTES

Begin = Callable[[AsyncIterator[bytes]], Awaitable[Any]]
"""Begins a stream over pieces of sound; what comes back gives its responses."""


class SoundStream:
    """One sound over one stream after the other.

    What is not final yet is kept. A stream that has grown old ends where a result ended, and the next one begins with
    the sound behind that: no word is cut, none is heard twice. Where nobody makes a pause, it ends at its longest, and
    Google makes final what it has.
    """

    def __init__(
        self, sound: AsyncIterator[bytes], begin: Begin, mended: Callable[[BaseException], bool]
    ) -> None:
        """`mended` tells of an error whether the next stream asks for something else, so that it may do better."""
        self._sound = sound
        self._begin = begin
        self._mended = mended
        self._held = bytearray()
        """Sound from `_from` on that is not final."""
        self._from = 0
        """Where `_held` begins, in bytes of the whole."""
        self._ended = False
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._problem: BaseException | None = None

    async def segments(self) -> AsyncGenerator[Segment, None]:
        """Give the final segments in order. Raises EngineError."""
        reading = asyncio.create_task(self._read())
        try:
            failures, pauses = 0, Pauses(0.2, 5.0)
            while not await self._is_over():
                before = self._from
                error: Exception = EngineError(
                    "ENGINE_SILENT", "Google ends each stream at once", transient=True
                )
                try:
                    async with aclosing(self._one()) as found:
                        async for segment in found:
                            yield segment
                except EngineError:
                    raise
                except Exception as failure:
                    error = failure
                    if self._mended(error):
                        continue
                    if not (is_passing(error) or is_end_of_stream(error)):
                        raise engine_error(error) from None
                if self._from > before:
                    failures = 0
                    pauses.reset()
                    continue
                failures += 1
                self._forget(self._end() - round(MOST_AGAIN_SECONDS * RATE) * 2)
                if failures == FAILURES:
                    raise error if isinstance(error, EngineError) else engine_error(error) from None
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
                while len(self._held) > _MOST_HELD:  # it comes faster than anybody speaks
                    self._room.clear()
                    await self._room.wait()
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
        self._room.set()

    async def _one(self) -> AsyncGenerator[Segment, None]:
        begin = self._from
        sent = _SentAudio(begin)
        stream = await self._begin(self._pieces(sent))
        final = begin
        try:
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
                        return
        finally:
            sent.over.set()
            self._came.set()
            stream.cancel()
        # All that was sent is heard: what no result was given for is silence.
        self._forget(sent.until)

    async def _pieces(self, sent: _SentAudio) -> AsyncIterator[bytes]:
        longest = sent.begin + round(LONGEST_SECONDS * RATE) * 2
        quiet_from = longest - round(QUIET_SECONDS * RATE) * 2
        while not sent.over.is_set():
            if sent.until == quiet_from:
                if self._end() < longest and not self._ended:
                    self._came.clear()
                    await self._came.wait()
                    continue
                longest = self._quietest(quiet_from, longest)
            at, most = sent.until - self._from, longest - sent.until
            if sent.until < quiet_from:
                most = quiet_from - sent.until
            piece = bytes(self._held[at : at + min(PIECE_BYTES, most)])
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

    def _quietest(self, start: int, end: int) -> int:
        """Return the middle of the quietest tenth of a second between two places; `end` where there is none."""
        sound = np.frombuffer(self._held, "<i2", (min(end, self._end()) - start) // 2, start - self._from)
        frames = sound[: len(sound) // _FRAME * _FRAME].astype(np.float32).reshape(-1, _FRAME)
        if not len(frames) or self._end() < end:
            return end
        quiet = int(np.square(frames).mean(axis=1).argmin())
        return start + (quiet * _FRAME + _FRAME // 2) * 2


class _SentAudio:
    """How far one stream is, in bytes of the whole."""

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.until = begin
        self.over = asyncio.Event()


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
