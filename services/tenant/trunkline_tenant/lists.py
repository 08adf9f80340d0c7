"""What all lists share: keyset pages, and filter conditions over columns."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping
from trunkline_runtime.api import filters, paging
from trunkline_runtime.errors import InvalidArgument
from trunkline_store import UtcTimestamp
from trunkline_store.records.keyset import behind

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def _as_it_is(value: filters.Value) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Filter:
    """A field that a list filters by: its type, its column, and how a value becomes the column's."""

    type: filters.FieldType
    column: sa.Column[Any]
    convert: Callable[[filters.Value], Any] = field(default=_as_it_is)


def by_enum(name: str, column: sa.Column[Any], enum: Any, prefix: str) -> Filter:
    """Return the filter of an enum's column; it takes `quote_request` and `INTENT_QUOTE_REQUEST`."""
    short: dict[str, int] = {full.removeprefix(prefix).lower(): number for full, number in enum.items()}

    def convert(value: filters.Value) -> int:
        text = str(value)
        number = short.get(text.removeprefix(prefix).lower())
        if number is None:
            allowed = ", ".join(word for word, number in short.items() if number != 0)
            raise InvalidArgument("filter", f"{name} cannot be {text[:100]!r}; allowed: {allowed}")
        return number

    return Filter(filters.FieldType.STRING, column, convert)


def conditions(text: str, allowed: Mapping[str, Filter]) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a filter over their columns. Raises InvalidArgument("filter")."""
    parsed = filters.parse(text, {name: one.type for name, one in allowed.items()})
    return [_OPERATORS[c.op](allowed[c.field].column, allowed[c.field].convert(c.value)) for c in parsed]


@dataclass(frozen=True, slots=True)
class Page:
    """One question for a page: rows in the order of `key`, which ends in what makes a row unique."""

    select: sa.Select[Any]
    key: Sequence[sa.Column[Any]]
    size: int
    token: str
    asked: Sequence[str]  # what must not change between pages: method, parent, filter, order
    descending: bool = False

    def query(self) -> sa.Select[Any]:
        """Return the statement for this page, with one row more, which tells whether another page follows.

        Raises InvalidArgument("page_token").
        """
        select = self.select
        kinds = [datetime if isinstance(column.type, UtcTimestamp) else str for column in self.key]
        after = paging.decode(self.token, self._digest(), kinds)
        if after is not None:
            select = select.where(behind(self.key, after, descending=self.descending))
        order = [column.desc() if self.descending else column.asc() for column in self.key]
        return select.order_by(*order).limit(paging.page_size(self.size) + 1)

    def fetch(self, conn: Connection) -> tuple[Sequence[RowMapping], str]:
        """Return the rows and the token of the next page, empty on the last."""
        size = paging.page_size(self.size)
        rows = conn.execute(self.query()).mappings().all()
        if len(rows) <= size:
            return rows, ""
        last = rows[size - 1]
        return rows[:size], paging.encode([last[column.name] for column in self.key], self._digest())

    def _digest(self) -> str:
        return paging.digest_of_request(*self.asked)
