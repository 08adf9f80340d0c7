"""How many receipts admission takes at once: by what presses on the store's writer, and by how fast it writes here."""

from __future__ import annotations

from typing import Self

from trunkline_store import Pressure

CROWDED = 32
"""So few that commits wait for some 2 ms. Often and little: a quiet source's webhook is in the next lot."""
USUAL = 256
ALONE = 2_048
"""While nobody waits: pages that many of them change are written once."""
PIECE_SECONDS = 0.008
"""How long the writer is kept at once while somebody may wait for it."""
_LEARNING = 1 / 4
"""What the latest batch counts for."""


class Batches:
    """The sizes, which learn from what was written how many receipts a piece of the writer's time is."""

    def __init__(self, crowded: int = CROWDED, usual: int = USUAL, alone: int = ALONE) -> None:
        self.usual = usual
        self._crowded = crowded
        self._alone = alone
        self._seconds_each = 0.0

    @classmethod
    def of(cls, most: int) -> Self:
        """Return batches of so many at most, whoever presses."""
        return cls(min(most, CROWDED), most, most)

    def under(self, pressure: Pressure) -> int:
        """Return how many are admitted at once now."""
        if pressure is Pressure.CROWD:
            return self._crowded
        if pressure is Pressure.NONE:
            return self._alone
        if self._seconds_each * self.usual <= PIECE_SECONDS:
            return self.usual
        return min(self.usual, max(self._crowded, int(PIECE_SECONDS / self._seconds_each)))

    def took(self, receipts: int, seconds: float) -> None:
        """Say how long the writer wrote so many."""
        each = seconds / receipts
        self._seconds_each += (each - self._seconds_each) * (_LEARNING if self._seconds_each else 1.0)
