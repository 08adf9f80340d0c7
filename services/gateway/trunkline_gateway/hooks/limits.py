"""A local token bucket per source: the abuse ceiling, above what callers fill and well below what the gateway takes."""

from __future__ import annotations

from collections.abc import Callable


class Buckets:
    """Token buckets by key, in this process only: with several gateways the ceiling is a multiple of it."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float], most: int = 100_000):
        """`rate` tokens a second refill each bucket up to `burst`; at most `most` buckets are kept."""
        self._rate = rate
        self._burst = burst
        self._now = now
        self._most = most
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> float:
        """Take one token and return 0.0, or return after how many seconds there will be one."""
        now = self._now()
        level, then = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        if level < 1.0:
            self._levels[key] = (level, now)
            return (1.0 - level) / self._rate
        if len(self._levels) >= self._most and key not in self._levels:
            self._levels.clear()  # forgetting is kinder than growing: everyone starts with a full bucket
        self._levels[key] = (level - 1.0, now)
        return 0.0
