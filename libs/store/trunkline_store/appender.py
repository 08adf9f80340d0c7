"""The face of the append path, the same on every engine."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

Stored = Callable[[int, Sequence[tuple[Any, ...]]], None]
"""Is told rows that are durable: the number of the first, which those of the others follow one by one."""


class Appender(ABC):
    """Puts rows into one append-only table, many awaiting callers to a commit.

    `columns` names the values of a row, in order: the table's columns without its autoincrement integer key
    (on Spanner a random one) and without its pending mark (trunkline_store.declare.pending_column).
    """

    columns: tuple[str, ...]

    @abstractmethod
    def append(
        self, row: tuple[Any, ...], size: int = 0, *, background: bool = False
    ) -> asyncio.Future[None]:
        """Queue a row; the future is done when the row is durable. On the event loop's thread only.

        `row` holds Python values as the columns' types take them; `size` is the row's weight in bytes, for
        the bound of the queue; a row in the `background` waits as `Database.write` says. Raises at once
        StoreBusy (the queue is full: nothing was written), StoreClosed, or InvalidValue for a row of the
        wrong width; the future raises InvalidValue or Conflict (this row only), or StoreUnavailable. If the
        awaiter is cancelled, the row may be committed all the same.
        """

    @abstractmethod
    def tell(self, stored: Stored) -> None:
        """Have rows told once they are durable, on the event loop, before those who await them.

        An engine whose numbers are not in order (Features) tells nothing, nor does any of a row that was refused first.
        """

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Rows queued or being written, not yet committed."""


def row_columns(table: sa.Table) -> tuple[str, ...]:
    """Return the columns whose values a row holds: not those that the engine fills by itself."""
    automatic = table.autoincrement_column
    return tuple(
        column.name
        for column in table.columns
        if column is not automatic and "pending_shards" not in column.info.get("spanner", {})
    )
