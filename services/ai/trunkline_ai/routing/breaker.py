"""A breaker that tells tenants apart: what one tenant sends may fail by itself, and is to shut out nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache
from trunkline_runtime.breakers import STATE

_MOST_TENANTS = 10_000
_CLOSED, _HALF_OPEN, _OPEN = 0.0, 1.0, 2.0


@dataclass(slots=True)
class _Row:
    """Failures with no success between them."""

    failures: int = 0
    until: float = 0.0
    """Until when the engine is left alone because of them."""


class TenantBreaker:
    """Leaves an engine alone for `seconds` after `failures` in a row, then has it asked again: one more failure counts.

    A row of one tenant's failures is that tenant's alone; one with failures of at least two tenants is everybody's.
    So where there is one tenant, it is left alone; where there are many, an outage is known by the second tenant's
    first failure. `name` is the engine's in the metrics.
    """

    def __init__(
        self, name: str, failures: int, seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._seconds = seconds
        self._now = now
        self._open_until: float | None = None
        """None while it is closed."""
        STATE.labels(name).set_function(self._state)
        self._everybodys = _Row()
        self._first = ""
        """The tenant of the first failure in everybody's row."""
        self._shared = False
        """Whether another tenant's is in it too."""
        self._rows: LRUCache[str, _Row] = LRUCache(_MOST_TENANTS)

    def rest(self, tenant: str) -> float:
        """Return for how many seconds the engine is left alone with a tenant's requests; 0: it may be asked."""
        row = self._rows.get(tenant)
        left = max(self._everybodys.until, row.until if row else 0.0) - self._now()
        return max(0.0, left)

    def failed(self, tenant: str) -> None:
        """Take note that the engine could not be had for a tenant's request."""
        if not self._everybodys.failures:
            self._first, self._shared = tenant, False
        self._shared = self._shared or tenant != self._first
        until = self._now() + self._seconds
        row = self._rows.setdefault(tenant, _Row())
        for one, counts in ((row, True), (self._everybodys, self._shared)):
            one.failures += 1
            if counts and one.failures >= self._failures:
                one.until = until
        if self._everybodys.failures >= self._failures:
            self._open_until = until

    def answered(self, tenant: str) -> None:
        """Take note that it answered one."""
        self._rows.pop(tenant, None)
        self._everybodys = _Row()
        self._open_until = None

    def _state(self) -> float:
        """Return what the gauge shows: half open from the end of the rest on, also while nobody asks."""
        until = self._open_until
        if until is None:
            return _CLOSED
        return _OPEN if self._now() < until else _HALF_OPEN
