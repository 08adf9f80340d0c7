"""The inbox: where receipts are committed, in the store while it answers, in the spool while it does not.

In good times a row goes to the store's appender and nothing else happens. A row that is not confirmed in time, or
that fails, goes to the spool instead, and from then on all rows do (the circuit is open) until a spooled row was
moved to the store: that is the probe.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import gauge
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_store import Appender
from trunkline_store.errors import Conflict, InvalidValue, StoreBusy, StoreError

from trunkline_gateway.hooks.deadlines import Deadlines, NotConfirmed
from trunkline_gateway.intake.drain import Drain
from trunkline_gateway.intake.keeper import GOES_TO, NOWHERE, SPOOL, STORE, Keeper
from trunkline_gateway.intake.spool import Spool, SpoolUnavailable
from trunkline_gateway.intake.stored import Stored
from trunkline_gateway.receipts import NewReceipt

log = get_logger(__name__)

OPEN = gauge(
    "trunkline_store_circuit_open", "1 while webhooks go to the spool because the store does not take them."
)

_BATCH = 256
_LOOK_SECONDS = 0.25
_FLOOR_SECONDS = 1.0
# Ticks without any confirmation after which a full queue means a store that stands still, not a busy one.
_STILL_TICKS = 2


class SpoolingInbox:
    """An Inbox (hooks/receiver.py) that does not lose what the store cannot take."""

    def __init__(
        self,
        store: Appender,
        stored: Stored,
        spool: Spool,
        *,
        confirm_seconds: float,
        admit_soon: Callable[[], None],
        pace: Pace = MACHINE,
    ):
        """`spool.care` is called here, also the first time: see `open`. Intervals: `inbox.look`, at the spool."""
        self._pace = pace
        self._look_seconds = pace.interval("inbox.look", _LOOK_SECONDS)
        self._store = store
        self._append = store.append
        self._stored = stored
        self._spool = spool
        self._drain = Drain(spool, store, stored, admit_soon)
        self._deadlines = Deadlines(confirm_seconds)
        self._keeper = Keeper(spool, confirm_seconds, pace.clock)
        self._down = False
        self._why = ""
        self._unknown = False  # rows in the spool whose floors have not been read
        self._confirmed = False
        self._still = 0

    async def append(self, row: NewReceipt, size: int) -> None:
        """Commit one row of `receipts`. Raises StoreBusy, and what the spool raises when it cannot help either."""
        if self._down:
            return await self._keeper.keep(row, self._stored.floor, "outage")
        floor = self._stored.floor
        try:
            future = self._append(row, size)
        except StoreBusy as error:
            if self._still < _STILL_TICKS:
                self._keeper.refused(error)
                raise
            return await self._keeper.keep(row, floor, "stalled")
        self._deadlines.watch(future)
        try:
            await future
        except (InvalidValue, Conflict):
            raise
        except StoreError as error:
            self._open_circuit(error)
            self._drain.doubt({row.receipt_id: floor})
            await self._keeper.keep(row, floor, "late" if isinstance(error, NotConfirmed) else "failed")
        else:
            self._confirmed = True

    @property
    def can_take(self) -> bool:
        """Whether a webhook that comes now is kept even though the store does not answer."""
        return not self._spool.trouble and not self.refusing

    @property
    def refusing(self) -> str:
        """Why webhooks are refused now; empty when they are not."""
        return self._keeper.refusing

    def describe(self) -> list[str]:
        """Return lines for an operator; none when all is as it should be."""
        where = "they are refused" if self.refusing else "they go to the spool"
        down = [f"store: takes no receipts, {where}: {self._why}"] if self._down or self.refusing else []
        return [*self._keeper.describe(), *down, *self._spool.describe()]

    async def open(self) -> None:
        """Open the spool and see what an earlier run left in it. Raises StoreLocked; a bad file is no error."""
        with contextlib.suppress(SpoolUnavailable):  # tried again by `recover`
            await self._care()
        with contextlib.suppress(StoreError):
            await self._stored.raise_floor()

    async def watch(self) -> None:
        """Give up on rows that are not confirmed in time; runs for as long as webhooks are taken."""
        while True:
            await self._pace.sleep(self._deadlines.tick_seconds)
            stands = self._deadlines.waiting and not self._confirmed
            self._still = self._still + 1 if stands else 0
            if self._confirmed:
                self._keeper.kept()
            self._confirmed = False
            self._deadlines.tick()
            self._keeper.tick()
            GOES_TO.set(NOWHERE if self.refusing else SPOOL if self._down else STORE)

    async def recover(self) -> None:
        """Move what was spooled to the store whenever that is possible, for ever."""
        floor_due, pace = 0.0, self._pace
        while True:
            await pace.sleep(self._look_seconds)
            try:
                await self._look_after_spool()
                await self._move()
                if not self._down and pace.clock() > floor_due:
                    floor_due = pace.clock() + _FLOOR_SECONDS
                    await self._stored.raise_floor()
            except SpoolUnavailable as error:
                log.warning("spool_failed", error=str(error))
                if not self._store.waiting:
                    self._close_circuit()  # nobody else can help: the next webhook tries the store
            except StoreError as error:
                self._open_circuit(error)
            except Exception as error:  # the spool must never end the gateway
                log.error("drain_failed", exc_info=error)

    async def _look_after_spool(self) -> None:
        """Do as `_care`. What keeps the spool from opening is no fault of the store: raises SpoolUnavailable alone."""
        try:
            await self._care()
        except StoreError as error:
            raise SpoolUnavailable(str(error)) from error

    async def _care(self) -> None:
        self._unknown |= await self._spool.care()
        if self._unknown:  # until they could be read: nothing is moved before
            self._drain.doubt(await self._spool.floors())
            self._unknown = False

    async def _move(self) -> None:
        if self._down and self._store.waiting:
            return  # what was handed over before may still be committed: wait for its lot
        if self._drain.doubts:
            await self._drain.resolve()
        while True:
            probing = self._down
            more = await self._drain.step(1 if probing else _BATCH)
            if self._drain.doubts or (self._down and not probing):
                return  # the store failed again meanwhile
            if probing:
                self._close_circuit()
            if not more:
                return

    def _open_circuit(self, error: StoreError) -> None:
        self._why = str(error)
        if not self._down:
            self._down = True
            OPEN.set(1)
            log.error("store_circuit_opened", error=str(error), reason=error.reason)

    def _close_circuit(self) -> None:
        if self._down:
            self._down = False
            OPEN.set(0)
            log.info("store_circuit_closed", spooled=self._spool.rows)
