"""Log lines that a stranger can cause at will: a few at once, then one a period with their count."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Hashable
from dataclasses import dataclass

Later = Callable[[float, Callable[[], None]], object]
Write = Callable[[int], object]
"""Writes a line that stands for so many."""


@dataclass(slots=True)
class _Period:
    """What one period has seen of a key: `count` more than were written, and how to write the last of them."""

    written: int = 0
    count: int = 0
    last: Callable[[], object] | None = None


class Repeats:
    """Counts by key: `at_once` lines are written as they come, and the further ones of `seconds` as one."""

    def __init__(
        self, *, at_once: int = 3, seconds: float = 1.0, most_keys: int = 1_000, later: Later | None = None
    ) -> None:
        """`later(seconds, call)` runs a call then; by default on the running loop. More keys than `most_keys` at a
        time are counted as one."""
        self._at_once = at_once
        self._seconds = seconds
        self._most_keys = most_keys
        self._later = later or (lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self._periods: dict[Hashable, _Period] = {}

    def note(self, key: Hashable, write: Write) -> None:
        """Write a line now, or count it; the count's line has the context of the last that it stands for."""
        if key not in self._periods and len(self._periods) >= self._most_keys:
            key = None
        told = self._periods.get(key)
        if told is None:
            told = self._begin(key, 0)
        if told.written < self._at_once:
            told.written += 1
            write(1)
            return
        told.count += 1
        count, context = told.count, contextvars.copy_context()
        told.last = lambda: context.run(write, count)

    def _begin(self, key: Hashable, written: int) -> _Period:
        told = self._periods[key] = _Period(written)
        self._later(self._seconds, lambda: self._over(key))
        return told

    def _over(self, key: Hashable) -> None:
        told = self._periods.pop(key)
        if told.last is not None:
            told.last()
            self._begin(key, self._at_once)  # a flood goes on as one line a period
