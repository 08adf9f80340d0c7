"""Work of a webhook that takes too long for the event loop: a thread does it, for each source one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST_WAITING_BYTES = 16 << 20


class Crowded(Exception):
    """The source has so much waiting for its thread that no more is taken."""


@dataclass(slots=True)
class _Line:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting_bytes: int = 0


class Aside:
    """Lines of work by source, so that the work of one source never takes all threads of the process."""

    def __init__(self, most_waiting_bytes: int = MOST_WAITING_BYTES):
        """Let `most_waiting_bytes` of each source wait, and always one piece of work."""
        self._most = most_waiting_bytes
        self._lines: dict[str, _Line] = {}

    async def run(
        self, source_id: str, size: int, call: Callable[P, T], *given: P.args, **named: P.kwargs
    ) -> T:
        """Return what `call` returns, of a body of `size` bytes. Raises Crowded, and what `call` raises."""
        size = max(1, size)
        line = self._lines.get(source_id)
        if line is None:
            line = self._lines[source_id] = _Line()
        elif line.waiting_bytes + size > self._most:
            raise Crowded
        line.waiting_bytes += size
        try:
            async with line.turn:
                return await asyncio.to_thread(call, *given, **named)
        finally:
            line.waiting_bytes -= size
            if not line.waiting_bytes:
                del self._lines[source_id]
