"""How many webhooks each source sends, and when it last did: the busiest by name, the others as one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_runtime.observe.tallies import tally
from trunkline_runtime.observe.top import Top

MOST_SOURCES = 200
"""How many sources of a process have series of their own."""

WEBHOOKS = tally(
    "trunkline_source_webhooks_total",
    "Webhooks that were accepted, by source; of sources beyond the 200 busiest, tenant and source are other.",
    ["tenant", "source"],
)
LAST = gauge(
    "trunkline_source_last_webhook_seconds",
    "Unix time of the last webhook of the source that was accepted; not of other sources; "
    "+Inf of a source that was deleted or disabled.",
    ["tenant", "source"],
)
BAD = counter(
    "trunkline_source_bad_signatures_total",
    "Webhooks with a wrong signature, by source; of sources beyond 200, tenant and source are other.",
    ["tenant", "source"],
)
QUIET_SECONDS = 7200.0
"""For so long it is known when a source last sent that no longer is among the busiest: the alert asks for it."""

_Key = tuple[str, str]
_OTHERS: _Key = ("other", "other")
"""The series of all others. A tenant `other` with a source `other` is counted here too."""
# Setting LAST with each webhook of a flood would cost as much as counting them.
_LAST_SECONDS = 1.0


class _Shown:
    """The series of a source, and when its last webhook was last shown."""

    __slots__ = ("set_last", "shown_at", "webhooks")

    def __init__(self, key: _Key) -> None:
        self.webhooks, self.set_last, self.shown_at = WEBHOOKS.labels(*key), LAST.labels(*key).set, 0.0


class Traffic:
    """Counts the webhooks of one process."""

    def __init__(self, most: int = MOST_SOURCES, now: Callable[[], float] = time.time) -> None:
        """`now` gives the Unix time."""
        self._now = now
        self._most = most
        self._top: Top[_Key] = Top(most, self._displace)
        self._series: dict[_Key, _Shown] = {}
        # Sources that only LAST has a series of, and when that was set.
        self._displaced: dict[_Key, float] = {}
        self._others = WEBHOOKS.labels(*_OTHERS)
        self._refused: Top[_Key] = Top(most, lambda key: BAD.remove(*key))

    def note(self, tenant: str, source: str) -> None:
        """Count an accepted webhook."""
        key = (tenant, source)
        if key == _OTHERS or not self._top.takes(key):
            self._others.inc()
            if key in self._displaced:
                self._displaced[key] = now = self._now()
                LAST.labels(*key).set(now)
            return
        series = self._series.get(key)
        if series is None:
            self._displaced.pop(key, None)
            series = self._series[key] = _Shown(key)
        series.webhooks.count += 1
        now = self._now()
        if abs(now - series.shown_at) >= _LAST_SECONDS:  # a clock may be set back
            series.shown_at = now
            series.set_last(now)

    def note_bad_signature(self, tenant: str, source: str) -> None:
        """Count a webhook with a wrong signature."""
        key = (tenant, source)
        shown = key if key != _OTHERS and self._refused.takes(key) else _OTHERS
        BAD.labels(*shown).inc()

    def gone(self, tenant: str, source: str) -> None:
        """Wait for no more webhooks of a source."""
        key = (tenant, source)
        self._top.drop(key)
        self._refused.drop(key)
        if key in self._displaced:
            LAST.labels(*key).set(math.inf)

    def _displace(self, key: _Key) -> None:
        """Take the series of a source away, but for when it last sent: it may send on, and would look silent."""
        if self._series.pop(key, None) is None:
            return
        WEBHOOKS.remove(*key)
        now = self._now()
        self._displaced[key] = now
        for other in [other for other, at in self._displaced.items() if at < now - QUIET_SECONDS]:
            self._remove(other)
        if len(self._displaced) > self._most:
            self._remove(min(self._displaced, key=self._displaced.__getitem__))

    def _remove(self, key: _Key) -> None:
        del self._displaced[key]
        LAST.remove(*key)
