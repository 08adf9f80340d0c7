"""How many webhooks each source sends, and when it last did: the busiest by name, the others as one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_runtime.observe.top import Top

MOST_SOURCES = 200
"""How many sources of a process have series of their own."""

WEBHOOKS = counter(
    "trunkline_source_webhooks_total",
    "Webhooks that were accepted, by source; of sources beyond the 200 busiest, tenant and source are other.",
    ["tenant", "source"],
)
LAST = gauge(
    "trunkline_source_last_webhook_seconds",
    "Unix time of the last webhook of the source that was accepted; not of other sources.",
    ["tenant", "source"],
)


class Traffic:
    """Counts the webhooks of one process."""

    def __init__(self, most: int = MOST_SOURCES, now: Callable[[], float] = time.time) -> None:
        """`now` gives the Unix time."""
        self._now = now
        self._top: Top[tuple[str, str]] = Top(most, self._forget)
        self._series: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._others = WEBHOOKS.labels("other", "other")

    def note(self, tenant: str, source: str) -> None:
        """Count an accepted webhook."""
        key = (tenant, source)
        if not self._top.takes(key):
            self._others.inc()
            return
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = WEBHOOKS.labels(*key), LAST.labels(*key)
        series[0].inc()
        series[1].set(self._now())

    def _forget(self, key: tuple[str, str]) -> None:
        if self._series.pop(key, None) is not None:
            WEBHOOKS.remove(*key)
            LAST.remove(*key)
