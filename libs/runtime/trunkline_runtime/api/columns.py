"""What lists filter by: conditions over columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trunkline_runtime.api import filters
from trunkline_runtime.errors import InvalidArgument


def _as_it_is(value: filters.Value) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Filter:
    """A field that a list filters by: its type, its column (of SQLAlchemy), and how a value becomes the column's."""

    type: filters.FieldType
    column: Any
    convert: Callable[[filters.Value], Any] = field(default=_as_it_is)


def by_id(column: Any) -> Filter:
    """Return the filter of a column that holds ids of resources; it takes the id and the whole name."""
    return Filter(filters.FieldType.STRING, column, lambda value: str(value).rpartition("/")[2])


def by_enum(name: str, column: Any, enum: Any, prefix: str) -> Filter:
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


def conditions(text: str, allowed: Mapping[str, Filter]) -> list[Any]:
    """Return the conditions of a filter over their columns. Raises InvalidArgument("filter")."""
    parsed = filters.parse(text, {name: one.type for name, one in allowed.items()})
    return [c.over(allowed[c.field].column, allowed[c.field].convert(c.value)) for c in parsed]
