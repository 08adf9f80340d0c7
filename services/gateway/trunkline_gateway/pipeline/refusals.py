"""Sources whose provider refuses the credential for recordings: told once each, and counted while it lasts."""

from __future__ import annotations

import time
from collections.abc import Callable

from trunkline_runtime.logs import get_logger
from trunkline_runtime.metrics import gauge

log = get_logger(__name__)

REFUSED = gauge(
    "trunkline_recording_refused_sources",
    "Sources of which this worker's last requests for recordings were refused (401 or 403).",
)
# What is still refused is asked for again sooner than this; of the others nothing waits any more.
_STALE_SECONDS = 3600.0


class Refusals:
    """One alert a source, however many calls wait for the same credential."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        """`now` gives seconds that only grow."""
        self._now = now
        self._last: dict[str, float] = {}

    def refused(self, source: str) -> None:
        """Say that a source's credential was refused."""
        if source not in self._last:
            log.warning("recordings_refused", source=source)
        self._last[source] = self._now()
        self._count()

    def answered(self, source: str) -> None:
        """Say that a source's credential was accepted."""
        if self._last.pop(source, None) is not None:
            log.info("recordings_accepted_again", source=source)
            self._count()

    def _count(self) -> None:
        oldest = self._now() - _STALE_SECONDS
        self._last = {source: last for source, last in self._last.items() if last > oldest}
        REFUSED.set(len(self._last))
