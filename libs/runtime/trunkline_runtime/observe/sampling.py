"""Which traces are exported: a share of them, and at most so many that begin within a second."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

RATIO = 1.0
PER_SECOND = 20


class Sampling:
    """Decides at the edge where a trace begins; everything further down goes by that.

    `ratio` is the share, `per_second` the most of one edge: a flood of webhooks costs no more than that, and a flood of
    one edge takes nothing from the others.
    """

    def __init__(
        self,
        ratio: float = RATIO,
        per_second: int = PER_SECOND,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._ratio = ratio
        self._per_second = per_second
        self._clock = clock
        self._draw = draw
        self._second = 0
        self._begun: dict[str, int] = {}

    def takes(self, edge: str) -> bool:
        """Say whether the trace that begins now is exported; `edge` is one of a few names."""
        if self._ratio < 1.0 and self._draw() >= self._ratio:
            return False
        second = int(self._clock())
        if second != self._second:
            self._second, self._begun = second, {}
        begun = self._begun.get(edge, 0)
        if begun >= self._per_second:
            return False
        self._begun[edge] = begun + 1
        return True
