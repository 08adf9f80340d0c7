"""Joins what was heard utterance by utterance into turns of one speaker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from trunkline_audio.engines.base import Segment

PAUSE_SECONDS = 1.0
LONGEST_SECONDS = 30.0


def joined(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Segments in order of time; neighbours of one speaker within `PAUSE_SECONDS` become one.

    A turn never grows past `LONGEST_SECONDS`, nor across the beginning of the other speaker.
    """
    out: list[Segment] = []
    for segment in sorted(segments, key=lambda item: (item.start, item.lane)):
        last = out[-1] if out else None
        if (
            last is not None
            and (last.lane, last.voice) == (segment.lane, segment.voice)
            and segment.start - last.end <= PAUSE_SECONDS
            and segment.end - last.start <= LONGEST_SECONDS
        ):
            out[-1] = replace(
                last,
                end=max(last.end, segment.end),
                text=f"{last.text} {segment.text}",
                words=last.words + segment.words,
            )
        else:
            out.append(segment)
    return tuple(out)
