"""What one process takes: of each source, of each tenant, and of sources that nobody can be asked about.

The wiring makes one `Limits` and gives it to the receiver, which counts what comes, and to the admission, which says
what it has looked at. Neither knows the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.hooks.unverified import Unverified
from trunkline_gateway.providers.base import Source

# Of senders that never resend so many times the quota is taken: what is not taken is lost for good.
GRACE = 2


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

    def give_back(self, key: str) -> None:
        """Undo a `take` that succeeded."""
        level, then = self._levels.get(key, (self._burst, self._now()))
        self._levels[key] = (level + 1.0, then)


class Quota(Protocol):
    """The bytes of receipts that are kept of each tenant (intake/kept.py)."""

    def is_over(self, source: Source, times: int = 1) -> bool:
        """Say whether a source's tenant has so many times its quota."""
        ...

    def take(self, tenant_id: str, size: int) -> None:
        """Count a receipt of `size` bytes that was taken."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one process. `kept` is None where there is no store to count in."""

    unverified: Unverified
    ceiling: Buckets
    kept: Quota | None = None

    @classmethod
    def of(cls, config: GatewayConfig, clock: Callable[[], float], kept: Quota | None = None) -> Self:
        """Make them as the settings say; `clock` returns seconds that only grow."""
        return cls(
            Unverified(config.max_unverified, config.max_unverified_bytes),
            Buckets(config.ceiling_per_second, config.ceiling_burst, clock),
            kept,
        )

    def is_over(self, source: Source) -> bool:
        """Say whether a source's tenant has more than its quota."""
        return self.kept is not None and self.kept.is_over(source)
