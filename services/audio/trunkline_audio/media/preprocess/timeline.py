"""Spans of a recording, and the mapping of trimmed audio back to the recording's own time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RATE = 16_000
"""Samples a second of all audio past decoding."""


@dataclass(frozen=True, order=True)
class Span:
    """Half-open range of samples at `RATE` within one channel of the recording."""

    start: int
    end: int

    @property
    def samples(self) -> int:
        """Length in samples."""
        return self.end - self.start

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end - self.start) / RATE


def merged(spans: Iterable[Span], bridge: int = 0) -> list[Span]:
    """Sorts spans and joins those that overlap or lie at most `bridge` samples apart."""
    out: list[Span] = []
    for span in sorted(spans):
        if out and span.start - out[-1].end <= bridge:
            out[-1] = Span(out[-1].start, max(out[-1].end, span.end))
        else:
            out.append(span)
    return out


def padded(spans: Sequence[Span], pad: int, total: int) -> list[Span]:
    """Widens spans by `pad` on both sides; where two would overlap, they share the gap in the middle."""
    out: list[Span] = []
    for index, span in enumerate(spans):
        before = spans[index - 1].end if index else -pad
        after = spans[index + 1].start if index + 1 < len(spans) else total + pad
        start = max(0, span.start - min(pad, (span.start - before) // 2))
        end = min(total, span.end + min(pad, (after - span.end) // 2))
        out.append(Span(start, end))
    return out


class Timeline:
    """Maps samples of audio joined from spans back to samples of the recording."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = list(spans)
        self._offsets: list[int] = []
        total = 0
        for span in self.spans:
            self._offsets.append(total)
            total += span.samples
        self.samples = total

    def source(self, sample: int) -> int:
        """Sample of the recording for a sample of the joined audio; outside values meet the nearest edge."""
        if not self.spans:
            return 0
        index = max(0, bisect_right(self._offsets, sample) - 1)
        span = self.spans[index]
        return span.start + min(max(0, sample - self._offsets[index]), span.samples)
