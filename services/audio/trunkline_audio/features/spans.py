"""Lists of time spans (start, end) in microseconds: sorted, none empty, none overlapping another of its list."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

Span = tuple[int, int]


def merged(spans: Iterable[Span], bridge: int = 0) -> list[Span]:
    """Return spans as a list of its kind; those at most `bridge` apart are one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start - found[-1][1] <= bridge:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return [(start, end) for start, end in found if start < end]


def total(spans: Iterable[Span]) -> int:
    """Return the length of all spans."""
    return sum(end - start for start, end in spans)


def without(spans: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Yield what is left of spans when the others are taken away."""
    place = 0
    for start, end in spans:
        begin = start
        while place < len(others) and others[place][1] <= begin:
            place += 1
        here = place
        while here < len(others) and others[here][0] < end:
            if begin < others[here][0]:
                yield begin, others[here][0]
            begin = max(begin, others[here][1])
            here += 1
        if begin < end:
            yield begin, end


def holding(spans: Sequence[Span], moment: int) -> Span | None:
    """Return the span that begins before a moment and ends after it; None when there is none."""
    place = bisect_right(spans, (moment, -1)) - 1
    return spans[place] if place >= 0 and spans[place][0] < moment < spans[place][1] else None


def touches(spans: Sequence[Span], start: int, end: int) -> bool:
    """Say whether a span overlaps the time from start to end."""
    place = bisect_right(spans, (start, end)) - 1
    near = spans[max(0, place) : place + 2]
    return any(one[0] < end and start < one[1] for one in near)
