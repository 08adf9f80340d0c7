"""The keeper: takes receipts into the spool, and knows of those that nobody took.

Who operates the gateway reads one number: where webhooks go. And one counter: why they were refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_store.errors import StoreBusy, StoreError

from trunkline_gateway.hooks.deadlines import Deadlines, NotConfirmed
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.receipts import NewReceipt

SPOOLED = counter("trunkline_spooled_total", "Receipts that went to the spool.", ["why"])
REFUSED = counter(
    "trunkline_refused_total", "Webhooks answered 503 because nothing could keep them.", ["why"]
)
GOES_TO = gauge(
    "trunkline_webhooks_go_to", "Where webhooks go now: 0 the store, 1 the spool, 2 nowhere (503)."
)

STORE, SPOOL, NOWHERE = 0, 1, 2
# The spool is local and idle in good times: when it takes this much longer than the store may, it is gone too.
_SPOOL_PATIENCE = 4
# How long one refusal counts as the state of affairs. Who asks for readiness may send nothing meanwhile, so that no
# success ends it; then the next webhook is the probe.
_REFUSING_SECONDS = 10.0


class Keeper:
    """Commits receipts to the spool; `tick` is to be called every `tick_seconds`."""

    def __init__(self, spool: Spool, confirm_seconds: float, now: Callable[[], float] = time.monotonic):
        """`confirm_seconds` is what the store is given."""
        self._spool = spool
        self._now = now
        self._deadlines = Deadlines(confirm_seconds * _SPOOL_PATIENCE)
        self._why = ""
        self._until = 0.0
        self.tick_seconds = self._deadlines.tick_seconds

    @property
    def refusing(self) -> str:
        """Why webhooks are refused now; empty when they are not."""
        return self._why if self._now() < self._until else ""

    async def keep(self, row: NewReceipt, floor: int, why: str) -> None:
        """Commit one row of `receipts`. Raises what the spool raises when it cannot."""
        try:
            future = self._spool.append(row, floor)
            self._deadlines.watch(future)
            await future
        except StoreError as error:
            self.refused(error)
            raise
        SPOOLED.labels(why).inc()
        self.kept()

    def refused(self, error: StoreError) -> None:
        """Note that a webhook was refused. One for which the store is too busy is counted: the next may be taken."""
        spool_is_late = isinstance(error, NotConfirmed)
        REFUSED.labels("spool_not_confirmed" if spool_is_late else error.reason.lower()).inc()
        if not isinstance(error, StoreBusy):
            self._why, self._until = str(error), self._now() + _REFUSING_SECONDS

    def kept(self) -> None:
        """Note that a webhook was kept, wherever."""
        self._until = 0.0

    def describe(self) -> list[str]:
        """Return lines for an operator; none when nothing is refused."""
        return [f"webhooks: refused (503): {self.refusing}"] if self.refusing else []

    def tick(self) -> None:
        """Let time pass for receipts that are not confirmed."""
        self._deadlines.tick()
