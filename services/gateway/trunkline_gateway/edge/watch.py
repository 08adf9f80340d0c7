"""Judges a connection at every look: whether its sender and its reader go on, and fast enough.

A look costs the connection's requests nothing: no timer and no clock a request. What happened between two looks is told
by numbers that only grow.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from trunkline_gateway.edge.limits import EdgeLimits


class Phase(enum.Enum):
    """What a connection waits for."""

    NEW = "its first request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    PASSED = "the rest of a body that is passed on as it comes"
    ANSWER = "its reader"
    WORK = "us"
    IDLE = "its next request"
    OVER = "its end"


@dataclass(frozen=True, slots=True)
class Sight:
    """A connection as it is seen: `request` numbers its requests, `moved` counts the bytes in the awaited direction."""

    phase: Phase
    request: int
    moved: int


class Watch:
    """Remembers since when a connection has been in its phase."""

    __slots__ = ("_began", "_first", "_last", "_limits", "_since")

    def __init__(self, limits: EdgeLimits) -> None:
        """Begin before the first look."""
        self._limits = limits
        self._first: Sight | None = None
        self._last = 0  # bytes that had moved at the last look
        self._began = 0.0  # of the phase
        self._since = 0.0  # when bytes were last seen to have moved

    def judge(self, sight: Sight, now: float, keep_alive: float) -> str:
        """Return the reason why the connection is to be ended, empty when it is not."""
        first = self._first
        if first is None or first.phase is not sight.phase or first.request != sight.request:
            self._first, self._last = sight, sight.moved
            self._began = self._since = now
            return ""
        if sight.moved != self._last:
            self._last, self._since = sight.moved, now
        took = now - self._began
        match sight.phase:
            case Phase.WORK:
                return ""
            case Phase.IDLE:
                return "IDLE" if took >= keep_alive else ""
            case Phase.OVER:
                return "OVER"
            case Phase.NEW:
                return "SILENT" if took >= self._limits.head_seconds else ""
            case Phase.HEAD:
                return "HEAD_TOO_SLOW" if took >= self._limits.head_seconds else ""
            case Phase.BODY:
                late = took >= self._limits.body_seconds
                return "BODY_TOO_SLOW" if late or self._slow(first, sight, now) else ""
            case Phase.PASSED:
                late = took >= self._limits.passed_seconds
                least = self._limits.passed_bytes_per_second
                return "BODY_TOO_SLOW" if late or self._slow(first, sight, now, least) else ""
            case Phase.ANSWER:
                return "ANSWER_TOO_SLOW" if self._slow(first, sight, now) else ""

    def _slow(self, first: Sight, sight: Sight, now: float, rate: int = 0) -> bool:
        if now - self._since >= self._limits.quiet_seconds:
            return True
        took = now - self._began
        least = (took - self._limits.grace_seconds) * (rate or self._limits.bytes_per_second)
        return sight.moved - first.moved < least
