"""What one process takes: of each source, of each tenant, and of sources that nobody can be asked about.

The wiring makes one `Limits` and gives it to the receiver, which counts what comes, and to the admission, which says
what it has looked at. Neither knows the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from trunkline_gateway.hooks.settings import HookSettings
from trunkline_gateway.hooks.unverified import Unverified
from trunkline_gateway.providers.base import Source

# Of senders that never resend so many times the quota is taken: what is not taken is lost for good.
GRACE = 2

# Whoever knows the URL of a hook can send what takes long to verify: so much of a processor it gets, and no more.
FUTILE_MS_PER_SECOND = 50.0
FUTILE_MS_BURST = 500.0


class Buckets:
    """Token buckets by key, in this process only: with several gateways the ceiling is a multiple of it."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float], most: int = 100_000):
        """`rate` tokens a second refill each bucket up to `burst`, at least 1; at most `most` buckets are kept."""
        self._rate = rate
        self._burst = burst
        self._now = now
        self._most = most
        self._levels: dict[str, tuple[float, float]] = {}

    def wait(self, key: str) -> float:
        """Return after how many seconds there will be a token; 0.0 when there is one."""
        held = self._levels.get(key)
        if held is None or held[0] >= 1.0:  # since then it only grew: once a webhook, this must cost nothing
            return 0.0
        level = self._level(key, self._now())
        return 0.0 if level >= 1.0 else (1.0 - level) / self._rate

    def charge(self, key: str, tokens: float = 1.0) -> float:
        """Take tokens whether they are there or not: what is owed has to come back before there is one again.

        Returns what is left, as a part of a full bucket.
        """
        now = self._now()
        left = self._level(key, now) - tokens
        levels = self._levels
        if len(levels) >= self._most and key not in levels:
            levels.clear()  # forgetting is kinder than growing: everyone starts with a full bucket
        levels[key] = (left, now)
        return left / self._burst

    def take(self, key: str) -> float:
        """Take one token and return 0.0, or return after how many seconds there will be one."""
        wait = self.wait(key)
        if not wait:
            self.charge(key)
        return wait

    def _level(self, key: str, now: float) -> float:
        held = self._levels.get(key)
        if held is None:
            return self._burst
        level = held[0] + (now - held[1]) * self._rate
        return level if level < self._burst else self._burst  # min() would cost a call


class ReceiptsQuota(Protocol):
    """The bytes of receipts that are kept of each tenant (intake/kept.py)."""

    def is_over(self, source: Source, times: int = 1) -> bool:
        """Say whether a source's tenant has so many times its quota."""
        ...

    def take(self, tenant_id: str, size: int) -> None:
        """Count a receipt of `size` bytes that was taken."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one process. `kept` is None where there is no store to count in.

    `ceiling` counts the webhooks of a source, `volume` the bytes of a tenant's that were verified, opened if they came
    compressed, and `futile` the milliseconds that a tenant's slow webhooks took which then did not verify.
    """

    unverified: Unverified
    ceiling: Buckets
    volume: Buckets
    futile: Buckets
    kept: ReceiptsQuota | None = None

    @classmethod
    def of(
        cls, settings: HookSettings, clock: Callable[[], float], kept: ReceiptsQuota | None = None
    ) -> Self:
        """Make them as the settings say; `clock` returns seconds that only grow."""
        return cls(
            Unverified(settings.max_unverified, settings.max_unverified_bytes),
            Buckets(settings.ceiling_per_second, settings.ceiling_burst, clock),
            Buckets(settings.tenant_bytes_per_second, settings.tenant_bytes_burst, clock),
            Buckets(FUTILE_MS_PER_SECOND, FUTILE_MS_BURST, clock),
            kept,
        )

    def is_over(self, source: Source) -> bool:
        """Say whether a source's tenant has more than its quota."""
        return self.kept is not None and self.kept.is_over(source)
