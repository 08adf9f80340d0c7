"""Logs what of a source's webhooks is not taken: for each reason a line at once, then one a minute with the count."""

from __future__ import annotations

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.repeats import Later, Repeats

from trunkline_gateway.providers.base import Delivery, Source

log = get_logger(__name__)

MINUTE = 60.0
_MOST_URL = 500


class RejectionLog:
    """Counts by source and reason; a flood costs the log as little as one mistake, and hides no other mistake."""

    def __init__(self, later: Later | None = None):
        """`later(seconds, call)` runs a call then; by default on the running loop."""
        self._repeats = Repeats(at_once=1, seconds=MINUTE, later=later)

    def note(self, source: Source, event_type: str, delivery: Delivery, reason: str) -> None:
        """Note one rejected request; `reason` is what its sender was told."""
        facts = {
            "tenant": source.tenant_id,
            "source": source.source_id,
            "event_type": event_type,
            "reason": reason,
            "url": delivery.url[:_MOST_URL],
        }
        self._repeats.note(
            (source.source_id, reason), lambda count: log.warning("webhooks_rejected", count=count, **facts)
        )

    def note_disabled(self, source: Source, event_type: str) -> None:
        """Note a webhook of a source that takes none: it, or its tenant, is disabled."""
        facts = {"tenant": source.tenant_id, "source": source.source_id, "event_type": event_type}
        self._repeats.note(
            (source.source_id, ""),
            lambda count: log.warning("webhooks_of_disabled_source", count=count, **facts),
        )
