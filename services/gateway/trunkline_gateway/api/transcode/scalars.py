"""Turns texts of paths and query parameters into the values of fields, as proto3's JSON mapping writes them."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from trunkline_runtime.errors import InvalidArgument

from trunkline_gateway.api.transcode.described_rules import limits, limits_of_item, rules_of

Convert = Callable[[str], Any]
"""Raises ValueError with what is allowed."""

_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_NUMBER = re.compile(r"-?(\d++(?:\.\d*+)?|\.\d++)([eE][+-]?\d++)?|NaN|-?Infinity", re.ASCII)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_CAPITAL = re.compile("[A-Z]")
_OWN: dict[str, Any] = {"google.protobuf.Timestamp": Timestamp, "google.protobuf.Duration": Duration}
_MOST_FLOAT = 3.4028234663852886e38


def converter(field: FieldDescriptor) -> Convert | None:
    """Return what turns one text into one value of a field; None for messages that have no text."""
    message = field.message_type
    if message is None:
        return _scalar(field)
    name = message.full_name
    if name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        return _from_json(GetMessageClass(message), name)
    if name == "google.protobuf.FieldMask":
        mask: Any = GetMessageClass(message)
        return lambda text: mask(paths=snake_paths(text))
    if name in _WRAPPERS:
        wrapper: Any = GetMessageClass(message)
        inner = _scalar(message.fields_by_name["value"])
        return lambda text: wrapper(value=inner(text))
    return None


def snake_paths(text: str) -> list[str]:
    """Return the paths of a field mask such as `displayName,state`, written either way."""
    return [
        _CAPITAL.sub(lambda c: "_" + c[0].lower(), path.strip()) for path in text.split(",") if path.strip()
    ]


def _scalar(field: FieldDescriptor) -> Convert:
    kind = field.cpp_type
    if kind in _INTEGERS:
        return _integer(*_INTEGERS[kind], _bounds(field))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        return _enum(field.enum_type)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _boolean
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return _number(sys.float_info.max)
    if kind == FieldDescriptor.CPPTYPE_FLOAT:
        return _number(_MOST_FLOAT)
    return _bytes if field.type == FieldDescriptor.TYPE_BYTES else _string


def _string(text: str) -> str:
    return text


def _boolean(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise ValueError("must be true or false")


def _number(most: float) -> Convert:
    def convert(text: str) -> float:
        if not _NUMBER.fullmatch(text):
            raise ValueError("must be a number")
        value = float(text)
        # What is too large must not become infinite in silence.
        if abs(value) > most and "Infinity" not in text:
            raise ValueError(f"must be a number of at most {most:.6g}")
        return value

    return convert


def _bytes(text: str) -> bytes:
    try:
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None


def _bounds(field: FieldDescriptor) -> str:
    """Return what an integer may be, as its rules say; those themselves the service checks."""
    least, most = _INTEGERS[field.cpp_type]
    rules = limits_of_item(field) if field.is_repeated else limits(rules_of(field), field)
    return f"must be an integer from {rules.get('minimum', least)} to {rules.get('maximum', most)}"


def _integer(least: int, most: int, wanted: str) -> Convert:
    def convert(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not least <= (value := int(text)) <= most:
            raise ValueError(wanted)
        return value

    return convert


def _enum(enum: EnumDescriptor) -> Convert:
    numbers = {value.name: value.number for value in enum.values}
    known = frozenset(numbers.values())
    choice = ", ".join(stated(numbers))

    def convert(text: str) -> int:
        if text in numbers:
            return numbers[text]
        if _INTEGER.fullmatch(text) and int(text) in known:
            return int(text)
        raise ValueError(f"must be one of {choice}")

    return convert


_WANTED = {
    "google.protobuf.Timestamp": "must be a time such as 2026-11-01T00:00:00Z",
    "google.protobuf.Duration": "must be seconds such as 90s or 1.5s",
}


def _from_json(cls: Any, name: str) -> Convert:
    wanted = _WANTED[name] + (" (a + in a URL is written %2B)" if name.endswith("Timestamp") else "")

    def convert(text: str) -> Any:
        value = cls()
        try:
            value.FromJsonString(text)
        except ValueError:
            raise ValueError(wanted) from None
        return value

    return convert


def check_own(name: str, value: Any, path: str) -> None:
    """Check a JSON value of a time or a duration. Raises InvalidArgument that shows how one is written."""
    if name in _WANTED:
        try:
            _OWN[name]().FromJsonString(value)
        except (ValueError, TypeError, AttributeError):
            raise InvalidArgument(path, _WANTED[name], reason="BAD_VALUE") from None


def stated(names: Iterable[str]) -> list[str]:
    """Return an enum's values that say something: who names the one that says nothing leaves the field out."""
    return [name for name in names if not name.endswith("_UNSPECIFIED")]
