"""Spans of a recording, in samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RATE = 16_000
"""Samples a second of all audio past decoding."""


@dataclass(frozen=True, order=True)
class SampleRange:
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


def merged(spans: Iterable[SampleRange], bridge: int = 0) -> list[SampleRange]:
    """Sorts spans and joins those that overlap or lie at most `bridge` samples apart."""
    out: list[SampleRange] = []
    for span in sorted(spans):
        if out and span.start - out[-1].end <= bridge:
            out[-1] = SampleRange(out[-1].start, max(out[-1].end, span.end))
        else:
            out.append(span)
    return out


def padded(spans: Sequence[SampleRange], pad: int, total: int) -> list[SampleRange]:
    """Widens spans by `pad` on both sides; where two would overlap, they share the gap in the middle."""
    out: list[SampleRange] = []
    for index, span in enumerate(spans):
        before = spans[index - 1].end if index else -pad
        after = spans[index + 1].start if index + 1 < len(spans) else total + pad
        start = max(0, span.start - min(pad, (span.start - before) // 2))
        end = min(total, span.end + min(pad, (after - span.end) // 2))
        out.append(SampleRange(start, end))
    return out
