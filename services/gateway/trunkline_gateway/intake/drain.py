"""The drain: moves spooled receipts into the store, each once, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter
from trunkline_store import Appender
from trunkline_store.errors import Conflict, InvalidValue, StoreError, StoreUnavailable

from trunkline_gateway.intake.spool import Spool, Spooled
from trunkline_gateway.intake.spool_log import Frame
from trunkline_gateway.intake.stored import Stored

log = get_logger(__name__)

DRAINED = counter(
    "trunkline_spool_drained_total",
    "Receipts that left the spool: moved to the store, or found there already.",
    ["how"],
)


class Drain:
    """One step at a time.

    A receipt is doubtful when it was handed to the store and the store did not say what became of it. Before a
    doubtful one leaves the spool, the store is asked whether it holds it; that is only possible when none of them
    is on its way any more.
    """

    def __init__(self, spool: Spool, store: Appender, stored: Stored, admit_soon: Callable[[], None]):
        """`admit_soon` is called after rows were moved."""
        self._spool = spool
        self._append = partial(store.append, background=True)  # webhooks that come now go first
        self._stored = stored
        self._admit_soon = admit_soon
        self._doubtful: dict[str, int] = {}
        self._there: set[str] = set()  # spooled, and known to be in the store
        self._refused: set[Frame] = set()

    def doubt(self, floors: Mapping[str, int]) -> None:
        """Say that these receipts may be in the store, by id and floor; before they are seen in the spool."""
        self._doubtful.update(floors)

    @property
    def doubts(self) -> bool:
        """Whether any receipt's lot is unknown."""
        return bool(self._doubtful)

    async def resolve(self) -> None:
        """Find the doubtful ones in the store or not. Raises StoreError. None of them may be on its way."""
        asked = dict(self._doubtful)
        self._there |= await self._stored.among(asked)
        for receipt_id in asked:
            self._doubtful.pop(receipt_id, None)

    async def step(self, limit: int) -> bool:
        """Move the oldest rows; False when there are none. Raises StoreError; then the rows stay, doubtful."""
        rows = await self._spool.first(limit, self._refused)
        if not rows:
            if not self._spool.rows:
                self._there.clear()
            return False
        if any(row.receipt_id in self._doubtful for row in rows):
            raise StoreUnavailable("a receipt's lot is not known yet")
        new = [row for row in rows if row.receipt_id not in self._there]
        error = await self._hand_over(new)
        done = [row for row in rows if row.receipt_id in self._there]
        if done:
            self._admit_soon()
            await self._spool.forget(done)
            self._there.difference_update(row.receipt_id for row in done)
            moved = sum(row in new for row in done)
            DRAINED.labels("moved").inc(moved)
            DRAINED.labels("found").inc(len(done) - moved)
        if error is not None:
            raise error
        return True

    async def _hand_over(self, rows: list[Spooled]) -> StoreError | None:
        """Append rows to the store; return the error that says that it cannot take them, if any."""
        handed: list[tuple[Spooled, asyncio.Future[None]]] = []
        broken: StoreError | None = None
        for row in rows:
            try:
                handed.append((row, self._append(row.receipt, len(row.frame.payload))))
            except StoreError as error:  # this one and those after it were not handed over
                broken = error
                break
        outcomes = await asyncio.gather(*(future for _, future in handed), return_exceptions=True)
        for (row, _), outcome in zip(handed, outcomes, strict=True):
            if outcome is None:
                self._there.add(row.receipt_id)
            elif isinstance(outcome, InvalidValue | Conflict):
                # It stays in the spool, out of everybody's way, for an operator to look at.
                log.error("spooled_receipt_refused", receipt=row.receipt_id, error=str(outcome))
                self._refused.add(row.frame)
            elif isinstance(outcome, StoreError):
                self._doubtful[row.receipt_id] = row.floor
                broken = outcome
            else:
                raise outcome
        return broken
