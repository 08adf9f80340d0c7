"""Labels of what customers bring, such as tenants and sources: the busiest have a series, all others share one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# So many keys for each that is shown are counted at a time, and so often they are ranked: once in so many of them.
_REMEMBERED = 20
_CLEARLY = 2.0


class Top(Generic[K]):
    """Says which keys have a series of their own: at most `most` at a time.

    A key gets one while there is room. Now and then the series of quiet keys go to clearly busier ones. `gone` is
    called with each key that loses its series, to remove it from the metrics.
    """

    def __init__(self, most: int, gone: Callable[[K], None] = lambda _key: None) -> None:
        self._most = most
        self._gone = gone
        self._counts: dict[K, float] = {}
        self._shown: set[K] = set()
        self._until_rank = most * _REMEMBERED

    def takes(self, key: K) -> bool:
        """Count one of `key`; False when it is to be shown as one of the others."""
        self._until_rank -= 1
        if self._until_rank <= 0:
            self._until_rank = self._most * _REMEMBERED
            self.rank()
        counts = self._counts
        if key in counts:
            counts[key] += 1.0
        elif len(counts) < self._most * _REMEMBERED:
            counts[key] = 1.0
        if key in self._shown:
            return True
        if len(self._shown) >= self._most:
            return False
        self._shown.add(key)
        return True

    def drop(self, key: K) -> None:
        """Forget a key; one that is shown loses its series."""
        self._counts.pop(key, None)
        if key in self._shown:
            self._shown.discard(key)
            self._gone(key)

    def rank(self) -> None:
        """Halve what was counted, and let clearly busier keys take the place of quiet ones."""
        counts = {key: count / 2 for key, count in self._counts.items() if count >= 1.0 or key in self._shown}
        self._counts = counts
        hidden = sorted((key for key in counts if key not in self._shown), key=lambda key: -counts[key])
        quiet = sorted(self._shown, key=lambda key: counts.get(key, 0.0))
        for busier, one in zip(hidden, quiet, strict=False):
            if counts[busier] <= _CLEARLY * counts.get(one, 0.0):
                break
            self._shown.discard(one)
            self._gone(one)
            self._shown.add(busier)
