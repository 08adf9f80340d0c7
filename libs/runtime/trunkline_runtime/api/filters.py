"""The subset of AIP-160 filters that all lists share: conditions joined by AND."""

from __future__ import annotations

import enum
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from trunkline_runtime.errors import InvalidArgument

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
COMPARISON = tuple(_COMPARE)
EQUALITY = COMPARISON[:2]
HAS = ":"
Value = str | int | float | bool | datetime
_MOST_CONDITIONS = 20
_MOST_CHARACTERS = 2_000
_INT64 = 2**63
_TOKEN = re.compile(
    r"""\s*+(?:(?P<op><=|>=|!=|=|<|>)|"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<word>[^\s"<>=!()]++))"""
)
_ESCAPED = re.compile(r"\\(.)")


class ValueKind(enum.Enum):
    """What a field's values are."""

    STRING = "text"
    INTEGER = "a whole number"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    TIMESTAMP = "an RFC 3339 time with a zone, such as 2026-11-01T00:00:00Z"
    CHOICE = "one of"
    LIST = "text that the list may hold"


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a field may be compared with. Use the constants, or `FieldType.choice(...)`."""

    kind: ValueKind
    values: tuple[str, ...] = ()

    STRING: ClassVar[FieldType]
    INTEGER: ClassVar[FieldType]
    NUMBER: ClassVar[FieldType]
    BOOLEAN: ClassVar[FieldType]
    TIMESTAMP: ClassVar[FieldType]
    LIST: ClassVar[FieldType]

    @classmethod
    def choice(cls, *values: str) -> FieldType:
        """Make the type of a field that has one of these values."""
        return cls(ValueKind.CHOICE, values)

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that make sense."""
        if self.kind is ValueKind.LIST:
            return (HAS,)
        return COMPARISON if self.kind in _ORDERED else EQUALITY

    @property
    def allowed(self) -> str:
        """What a value may be, for people."""
        return f"one of {', '.join(self.values)}" if self.kind is ValueKind.CHOICE else self.kind.value


_ORDERED = (ValueKind.INTEGER, ValueKind.NUMBER, ValueKind.TIMESTAMP)
FieldType.STRING = FieldType(ValueKind.STRING)
FieldType.INTEGER = FieldType(ValueKind.INTEGER)
FieldType.NUMBER = FieldType(ValueKind.NUMBER)
FieldType.BOOLEAN = FieldType(ValueKind.BOOLEAN)
FieldType.TIMESTAMP = FieldType(ValueKind.TIMESTAMP)
FieldType.LIST = FieldType(ValueKind.LIST)


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison; `value` has the type of the field, times are aware and in UTC."""

    field: str
    op: str
    value: Value

    def over(self, column: Any, value: Any) -> Any:
        """Return the comparison of a column (anything with operators) with `value`, the column's own form of ours.

        Of a list, return what its `has` returns.
        """
        if self.op == HAS:
            return column.has(value)
        return _COMPARE[self.op](column, value)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    bare: bool


def parse(text: str, fields: Mapping[str, FieldType]) -> list[Condition]:
    """Return the conditions of a filter, all of which must hold; none for the empty filter.

    Raises InvalidArgument("filter") that names the field and what is allowed.
    """
    if len(text) > _MOST_CHARACTERS:
        raise _bad(f"is longer than {_MOST_CHARACTERS} characters")
    tokens = _tokens(text)
    conditions: list[Condition] = []
    at = 0
    while at < len(tokens):
        if conditions:
            if tokens[at].text != "AND" or not tokens[at].bare:
                raise _bad(f"expected AND before {tokens[at].text!r}; only AND joins conditions")
            at += 1
        tokens[at : at + 1] = _apart(tokens[at : at + 1], fields)
        conditions.append(_condition(tokens[at : at + 3], fields))
        at += 3
        if len(conditions) > _MOST_CONDITIONS:
            raise _bad(f"has more than {_MOST_CONDITIONS} conditions")
    return conditions


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise _bad(f"cannot be read from character {at + 1}: {text[at : at + 20]!r}")
        at = found.end()
        if found["op"]:
            tokens.append(_Token("op", found["op"], True))
        elif found["quoted"] is not None:
            tokens.append(_Token("value", _ESCAPED.sub(r"\1", found["quoted"]), False))
        else:
            tokens.append(_Token("value", found["word"], True))
    return tokens


def _apart(tokens: list[_Token], fields: Mapping[str, FieldType]) -> list[_Token]:
    """Return the tokens of `labels:x`, where a list is expected; a colon elsewhere is part of a word."""
    if not tokens or not tokens[0].bare:
        return tokens
    name, colon, value = tokens[0].text.partition(HAS)
    if not colon or name not in fields or fields[name].kind is not ValueKind.LIST:
        return tokens
    found = [_Token("value", name, True), _Token("op", HAS, True)]
    return [*found, _Token("value", value, True)] if value else found


def _condition(tokens: list[_Token], fields: Mapping[str, FieldType]) -> Condition:
    if not tokens:
        raise _bad("ends with AND")
    name = tokens[0].text
    if tokens[0].kind != "value" or not tokens[0].bare:
        raise _bad(f"expected a field before {name!r}")
    if name in ("OR", "NOT", "AND"):
        raise _bad(f"{name} is not valid in a filter; only AND joins conditions")
    if name not in fields:
        raise _bad(f"unknown field {name!r}; allowed: {', '.join(sorted(fields))}")
    kind = fields[name]
    if len(tokens) < 3 or tokens[1].kind != "op" or tokens[2].kind != "value":
        raise _bad(f"{name} needs an operator ({' '.join(kind.operators)}) and a value ({kind.allowed})")
    op = tokens[1].text
    if op not in kind.operators:
        raise _bad(f"{name} cannot be compared with {op}; allowed: {' '.join(kind.operators)}")
    return Condition(name, op, _value(name, kind, tokens[2].text))


def _value(name: str, kind: FieldType, text: str) -> Value:
    try:
        match kind.kind:
            case ValueKind.STRING | ValueKind.LIST:
                return text
            case ValueKind.INTEGER:
                return _integer(text)
            case ValueKind.NUMBER:
                return _number(text)
            case ValueKind.BOOLEAN:
                return {"true": True, "false": False}[text.lower()]
            case ValueKind.TIMESTAMP:
                return _time(text)
            case ValueKind.CHOICE:
                return kind.values[kind.values.index(text)]
    except (ValueError, KeyError, OverflowError):
        raise _bad(f"{name} cannot be {text[:100]!r}; allowed: {kind.allowed}") from None


def _integer(text: str) -> int:
    value = int(text)
    if not -_INT64 <= value < _INT64:  # more than a store takes
        raise ValueError(text)
    return value


def _number(text: str) -> float:
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 -- not a number differs from itself
        raise ValueError(text)
    return value


def _time(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None or "T" not in text.upper():
        raise ValueError(text)
    return value.astimezone(UTC)


def _bad(message: str) -> InvalidArgument:
    return InvalidArgument("filter", message)
