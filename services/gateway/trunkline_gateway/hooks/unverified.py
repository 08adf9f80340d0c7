"""How much waits that nobody could judge yet: counted in one place, in rows and in bytes, before it is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from trunkline_runtime.observe.metrics import gauge

WAITING = gauge("trunkline_unverified_waiting", "Receipts that wait for a source nobody can be asked for.")

# What a receipt weighs beside its body, its headers and its path.
ROW_BYTES = 512


def weight_of(url: str, headers: bytes, body: bytes) -> int:
    """Return the bytes that a receipt counts for."""
    return len(body) + len(headers) + len(url) + ROW_BYTES


@dataclass
class Unverified:
    """The bound on unverified receipts of one process.

    A receipt is counted from before its commit until admission has looked at it, and from then on as long as the
    store names it as undecided: `recount` tells that number, which several processes share.
    """

    most_rows: int
    most_bytes: int
    _entering: int = 0
    _entering_bytes: int = 0
    _entered: dict[str, int] = field(default_factory=dict)  # committed, not looked at: weights by receipt id
    _entered_bytes: int = 0
    _undecided: int = 0
    _undecided_bytes: int = 0
    _meanwhile: int = 0  # undecided since a recount began, whether it sees them or not
    _meanwhile_bytes: int = 0

    @property
    def rows(self) -> int:
        """How many wait."""
        return self._entering + len(self._entered) + self._undecided

    @property
    def bytes(self) -> int:
        """How much they weigh."""
        return self._entering_bytes + self._entered_bytes + self._undecided_bytes

    @property
    def undecided(self) -> int:
        """How many of them admission has looked at."""
        return self._undecided

    def enter(self, weight: int) -> bool:
        """Count one that is about to be committed; False when there is no room."""
        if self.rows >= self.most_rows or self.bytes + weight > self.most_bytes:
            return False
        self._entering += 1
        self._entering_bytes += weight
        return True

    def entered(self, receipt_id: str, weight: int, *, kept: bool) -> None:
        """Say how the commit of one that entered went."""
        self._entering -= 1
        self._entering_bytes -= weight
        if kept:
            self._entered[receipt_id] = weight
            self._entered_bytes += weight

    def looked_at(self, receipt_ids: Iterable[str], undecided_weights: Iterable[int]) -> None:
        """Say that admission looked at receipts, and what those weigh that it could not decide."""
        for receipt_id in receipt_ids:
            self._entered_bytes -= self._entered.pop(receipt_id, 0)
        for weight in undecided_weights:
            self._undecided += 1
            self._undecided_bytes += weight
            self._meanwhile += 1
            self._meanwhile_bytes += weight
        WAITING.set(self.rows)

    def waiting(self) -> list[str]:
        """Return the ids of those that admission has not looked at."""
        return list(self._entered)

    def begin_recount(self) -> None:
        """Say that the store is about to be asked for `recount`."""
        self._meanwhile = self._meanwhile_bytes = 0

    def recount(self, undecided: int, undecided_bytes: int) -> None:
        """Take what the store says about those that were looked at; until the next, later ones may count twice."""
        self._undecided = undecided + self._meanwhile
        self._undecided_bytes = undecided_bytes + self._meanwhile_bytes
        WAITING.set(self.rows)
