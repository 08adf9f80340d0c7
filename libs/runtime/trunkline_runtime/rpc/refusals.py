"""What the log says of refused requests: a few lines a second for each reason and caller, then their count."""

from __future__ import annotations

from trunkline_runtime.errors import Cancelled, TrunklineError
from trunkline_runtime.identity.callers import Caller
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.repeats import Repeats
from trunkline_runtime.rpc.guard import ForeignName, ForeignPeer

log = get_logger(__name__)


class RefusalLog:
    """Writes the event `refused` at the level info, and `failed` as a warning of what may succeed later."""

    def __init__(self, refused: str, failed: str, repeats: Repeats | None = None) -> None:
        self._refused = refused
        self._failed = failed
        self._repeats = repeats or Repeats()

    def note(self, error: TrunklineError, caller: Caller) -> None:
        """Note one refused request. A line that stands for several has the facts of the last, and their `count`."""
        facts: dict[str, str | None] = {
            "code": error.code.name,
            "reason": error.reason,
            "error": error.message,
        }
        event, tell = self._refused, log.info
        if isinstance(error, ForeignName):
            event, tell, facts = "cross_tenant_denied", log.warning, error.facts
        elif isinstance(error, ForeignPeer):
            event, tell, facts = "peer_refused", log.warning, error.facts
        elif error.transient and not isinstance(error, Cancelled):
            event, tell = self._failed, log.warning

        def write(count: int) -> None:
            tell(event, **facts, **({"count": count} if count > 1 else {}))

        self._repeats.note((event, error.reason, caller.tenant or str(caller)), write)
