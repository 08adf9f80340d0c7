"""Logs wrong signatures: for each source and reason a line at once, then one a minute with the count."""

from __future__ import annotations

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.repeats import Later, Repeats

from trunkline_gateway.providers.base import Delivery, Source

log = get_logger(__name__)

MINUTE = 60.0
<<<<<<< HEAD
_MOST_KINDS = 1_000
=======
>>>>>>> reads
_MOST_URL = 500


class RejectionLog:
    """Counts by source and reason; a flood costs the log as little as one mistake, and hides no other mistake."""

    def __init__(self, later: Later | None = None):
        """`later(seconds, call)` runs a call then; by default on the running loop."""
<<<<<<< HEAD
        self._later = later or (lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self._waiting: dict[tuple[str, str], tuple[int, dict[str, str]]] = {}
=======
        self._repeats = Repeats(at_once=1, seconds=MINUTE, later=later)
>>>>>>> reads

    def note(self, source: Source, event_type: str, delivery: Delivery, reason: str) -> None:
        """Note one rejected request; `reason` is what its sender was told."""
        facts = {
            "tenant": source.tenant_id,
            "source": source.source_id,
            "event_type": event_type,
            "reason": reason,
            "url": delivery.url[:_MOST_URL],
        }
<<<<<<< HEAD
        kind = (source.source_id, reason)
        if kind in self._waiting:
            self._waiting[kind] = (self._waiting[kind][0] + 1, facts)
        elif len(self._waiting) < _MOST_KINDS:
            self._say(kind, 1, facts)

    def _say(self, kind: tuple[str, str], count: int, facts: dict[str, str]) -> None:
        log.warning("webhooks_rejected", count=count, **facts)
        self._waiting[kind] = (0, facts)
        self._later(MINUTE, lambda: self._minute_over(kind))

    def _minute_over(self, kind: tuple[str, str]) -> None:
        count, facts = self._waiting.pop(kind)
        if count:
            self._say(kind, count, facts)
=======
        self._repeats.note(
            source.source_id, lambda count: log.warning("webhooks_rejected", count=count, **facts)
        )
>>>>>>> reads
