"""Python values as Spanner's wire format, and back."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import sqlalchemy as sa
from google.protobuf.struct_pb2 import ListValue, Value

from trunkline_store.errors import InvalidValue
from trunkline_store.types import Bool, Bytes, Json, JsonText, UtcTimestamp


class TypeCode(IntEnum):
    """google.spanner.v1.TypeCode, as far as the store uses it."""

    BOOL = 1
    INT64 = 2
    FLOAT64 = 3
    TIMESTAMP = 4
    STRING = 6
    BYTES = 7
    ARRAY = 8
    STRUCT = 9
    JSON = 11


@dataclass(frozen=True)
class Rows:
    """A parameter that is an ARRAY of STRUCTs: rows of the named columns."""

    fields: tuple[tuple[str, TypeCode], ...]
    rows: list[tuple[Any, ...]]


_INT64 = range(-(1 << 63), 1 << 63)
_NULL = Value(null_value=0)  # type: ignore[arg-type]


def to_value(value: Any) -> Value:
    """Return the wire form of what a column type gave; InvalidValue for what Spanner cannot take."""
    if value is None:
        return _NULL
    if isinstance(value, str):
        try:
            return Value(string_value=value)
        except (UnicodeEncodeError, ValueError):
            raise InvalidValue("text must not contain lone surrogates") from None
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, int):
        if value not in _INT64:
            raise InvalidValue("an integer does not fit 64 bits")
        return Value(string_value=str(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            return Value(string_value={"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity"))
        return Value(number_value=value)
    if isinstance(value, bytes | bytearray | memoryview):
        return Value(string_value=b64encode(value).decode("ascii"))
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidValue("a timestamp must be an aware datetime, not a naive datetime")
        return Value(string_value=value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    if isinstance(value, Rows):
        return Value(list_value=ListValue(values=[Value(list_value=to_values(row)) for row in value.rows]))
    if isinstance(value, list | tuple):
        return Value(list_value=to_values(value))
    raise InvalidValue(f"Spanner takes no {type(value).__name__}")


def to_values(row: list[Any] | tuple[Any, ...]) -> ListValue:
    """Return the wire form of a row."""
    return ListValue(values=[to_value(value) for value in row])


def type_of(value: Any) -> TypeCode | None:
    """Return the type that a parameter declares; None leaves it to Spanner (NULL)."""
    if isinstance(value, JsonText):
        return TypeCode.JSON
    for kind, code in _KINDS:
        if isinstance(value, kind):
            return code
    return None


_KINDS: tuple[tuple[Any, TypeCode], ...] = (
    (str, TypeCode.STRING),
    (bool, TypeCode.BOOL),
    (int, TypeCode.INT64),
    (float, TypeCode.FLOAT64),
    (bytes | bytearray | memoryview, TypeCode.BYTES),
    (datetime, TypeCode.TIMESTAMP),
)


def code_of(column: sa.Column[Any]) -> TypeCode:
    """Return the type that a column has on Spanner."""
    for kind, code in _COLUMNS:
        if isinstance(column.type, kind):
            return code
    raise InvalidValue(f"{column}: the store knows no {column.type!r} on Spanner")


_COLUMNS: tuple[tuple[Any, TypeCode], ...] = (
    (UtcTimestamp, TypeCode.TIMESTAMP),
    (Json, TypeCode.JSON),
    (Bytes | sa.LargeBinary, TypeCode.BYTES),
    (Bool | sa.Boolean, TypeCode.BOOL),
    (sa.Integer, TypeCode.INT64),
    (sa.Float, TypeCode.FLOAT64),
    # Text is a decorator over String, so it is asked for by what it wraps.
    (sa.String | sa.types.TypeDecorator, TypeCode.STRING),
)


def _float(value: Value) -> float:
    return float(value.string_value) if value.HasField("string_value") else value.number_value


def _text(value: Value) -> Any:
    return value.string_value


_DECODERS: Mapping[int, Callable[[Value], Any]] = {
    TypeCode.BOOL: lambda value: value.bool_value,
    TypeCode.INT64: lambda value: int(value.string_value),
    TypeCode.FLOAT64: _float,
    TypeCode.TIMESTAMP: lambda value: datetime.fromisoformat(value.string_value),
    TypeCode.BYTES: lambda value: b64decode(value.string_value),
    TypeCode.JSON: lambda value: json.loads(value.string_value),
}


def decoder(kind: Any) -> Callable[[Value], Any]:
    """Return the way back for a google.spanner.v1.Type."""
    if kind.code == TypeCode.ARRAY:
        element = decoder(kind.array_element_type)
        return lambda value: None if _null(value) else [element(one) for one in value.list_value.values]
    convert = _DECODERS.get(int(kind.code), _text)
    return lambda value: None if _null(value) else convert(value)


def _null(value: Value) -> bool:
    return value.HasField("null_value")
