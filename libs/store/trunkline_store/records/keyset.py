"""Pages by key: where the last page ended, as a condition that every engine takes (Spanner has no row values)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from trunkline_store.types import UtcTimestamp

T = TypeVar("T")


class Place(Protocol):
    """Where a page lies in a list: how many rows, behind which key, and the token of a place further on."""

    @property
    def size(self) -> int:
        """How many rows the page has at most."""

    def after(self, kinds: Sequence[type]) -> Sequence[Any] | None:
        """Return the key that the page begins behind, None for the first; `kinds` are the types of its values."""

    def next(self, key: Sequence[Any]) -> str:
        """Return the token of the page that begins behind this key."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of `select` in the order of `key`, which ends in what makes a row unique and has no NULLs.

    The key's columns are text or moments, and are among those that are selected.
    """

    select: sa.Select[Any]
    key: Sequence[sa.Column[Any]]
    place: Place
    descending: bool = False

    def fetch(self, conn: Connection) -> tuple[Sequence[Row[Any]], str]:
        """Return the rows, and the token of the next page, empty when there is none. Raises what `place` does."""
        rows = conn.execute(self.query()).all()
        size = self.place.size
        return rows[:size], self.token_behind(rows[size - 1]) if len(rows) > size else ""

    def made(self, make: Callable[[Row[Any]], T]) -> Callable[[Connection], tuple[list[T], str]]:
        """Return what reads the page like `fetch`, and makes something of each row on the reader's thread.

        500 messages take some 10 ms to make, for which the event loop would answer nobody.
        """

        def read(conn: Connection) -> tuple[list[T], str]:
            rows, token = self.fetch(conn)
            return [make(row) for row in rows], token

        return read

    def query(self) -> sa.Select[Any]:
        """Return the statement, which asks for one row more: it tells whether another page follows."""
        kinds = [datetime if isinstance(column.type, UtcTimestamp) else str for column in self.key]
        after = self.place.after(kinds)
        select = self.select
        if after is not None:
            select = select.where(behind(self.key, after, descending=self.descending))
        order = [column.desc() if self.descending else column.asc() for column in self.key]
        return select.order_by(*order).limit(self.place.size + 1)

    def token_behind(self, row: Row[Any]) -> str:
        """Return the token of the page that begins behind this row."""
        return self.place.next([row._mapping[column.name] for column in self.key])


def behind(
    key: Sequence[sa.ColumnElement[Any]], last: Sequence[Any], *, descending: bool
) -> sa.ColumnElement[bool]:
    """Return the condition of rows that come after `last` in the order of `key`, which is unique and has no NULLs.

    (a, b) > (x, y) is written a >= x AND (a > x OR b > y): the first part is a range of an index.
    """
    column, *columns = key
    value, *values = last
    further: sa.ColumnElement[bool] = column < value if descending else column > value
    if not columns:
        return further
    reached = column <= value if descending else column >= value
    return sa.and_(reached, sa.or_(further, behind(columns, values, descending=descending)))
