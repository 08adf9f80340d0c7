"""Column types that take and give the same Python values on every engine.

Each refuses what one of the engines could not keep (InvalidValue), so that a value that SQLite alone would
swallow is not found out in production. None is NULL for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from trunkline_store.errors import InvalidValue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# Made once: json.dumps makes one for each value.
_encoded = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode

Processor = Callable[[Any], Any]


def on_spanner(dialect: Dialect) -> bool:
    """Tell whether a dialect is Cloud Spanner's."""
    return dialect.name.startswith("spanner")


class _StoreType(TypeDecorator[Any]):
    """A decorator whose conversions are one function each, called by SQLAlchemy with no wrapper a value."""

    impl: Any = sa.String

    def to_driver(self, dialect: Dialect) -> Processor:
        raise NotImplementedError

    def from_driver(self, dialect: Dialect) -> Processor | None:
        return None

    def bind_processor(self, dialect: Dialect) -> Processor:
        return self.to_driver(dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return self.from_driver(dialect)

    def process_literal_param(self, value: Any, dialect: Dialect) -> Any:
        return self.to_driver(dialect)(value)


class UtcTimestamp(_StoreType):
    """An aware datetime, given back in UTC, exact to the microsecond.

    INTEGER microseconds since 1970 on SQLite (they sort and compare as numbers), TIMESTAMP on Spanner.
    """

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the stored type."""
        if on_spanner(dialect):
            return dialect.type_descriptor(sa.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(sa.BigInteger())

    def to_driver(self, dialect: Dialect) -> Processor:
        """Return the conversion of a value on its way in."""
        return _checked_time if on_spanner(dialect) else to_microseconds

    def from_driver(self, dialect: Dialect) -> Processor | None:
        """Return the conversion of a value on its way out."""
        return None if on_spanner(dialect) else from_microseconds


class Text(_StoreType):
    """Unicode text without NUL and lone surrogates; `length` in characters (Spanner holds to it)."""

    impl = sa.String
    cache_ok = True  # not inherited: SQLAlchemy asks each class

    def to_driver(self, dialect: Dialect) -> Processor:
        """Return the check of a value on its way in."""
        return checked_text


class Bytes(_StoreType):
    """Raw bytes; also takes bytearray and memoryview."""

    impl = sa.LargeBinary
    cache_ok = True

    def to_driver(self, dialect: Dialect) -> Processor:
        """Return the check of a value on its way in."""
        return checked_bytes


class Bool(_StoreType):
    """True or False and nothing that merely looks like it."""

    impl = sa.Boolean
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the stored type: a plain BOOLEAN without a generated CHECK."""
        return dialect.type_descriptor(sa.Boolean(create_constraint=False))

    def to_driver(self, dialect: Dialect) -> Processor:
        """Return the check of a value on its way in."""
        return _checked_bool

    def from_driver(self, dialect: Dialect) -> Processor:
        """Return the conversion of a value on its way out."""
        return _to_bool


class Json(_StoreType):
    """A JSON value: dict, list, str, int, float, bool.

    Keys come back sorted on every engine (Spanner sorts them); NaN, infinities and lone surrogates are
    refused. Text on SQLite, JSON on Spanner. A whole column of `None` is NULL, never JSON's null.
    """

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the stored type."""
        if on_spanner(dialect):
            return dialect.type_descriptor(sa.JSON(none_as_null=True))
        return dialect.type_descriptor(sa.Text())

    def to_driver(self, dialect: Dialect) -> Processor:
        """Return the conversion of a value on its way in."""
        return _spanner_json if on_spanner(dialect) else to_json

    def from_driver(self, dialect: Dialect) -> Processor | None:
        """Return the conversion of a value on its way out."""
        return None if on_spanner(dialect) else _from_json

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Compare as this type."""
        return self


def to_microseconds(value: Any) -> int | None:
    """Return microseconds since 1970 of an aware datetime."""
    try:
        return None if value is None else (value - _EPOCH) // _MICROSECOND
    except TypeError:
        raise InvalidValue(f"a timestamp must be an aware datetime, not {_told(value)}") from None


def from_microseconds(value: Any) -> datetime | None:
    """Return the moment that many microseconds after 1970, in UTC."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)


def checked_text(value: Any) -> str | None:
    """Return the text if every engine can keep it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidValue(f"text expected, not {_told(value)}")
    if "\0" in value:
        raise InvalidValue("text must not contain NUL")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidValue("text must not contain lone surrogates") from None
    return value


def to_json(value: Any) -> str | None:
    """Return the one way this value is written as JSON."""
    if value is None:
        return None
    if not value and isinstance(value, (dict, list)):
        return "{}" if isinstance(value, dict) else "[]"
    try:
        return checked_text(_encoded(value))
    except (TypeError, ValueError) as exc:
        raise InvalidValue(f"not a JSON value: {exc}") from None


def _from_json(value: Any) -> Any:
    return None if value is None else json.loads(value)


class JsonText(str):
    """A JSON value on its way to Spanner, told apart from plain text."""

    __slots__ = ()


def _spanner_json(value: Any) -> JsonText | None:
    text = to_json(value)
    return None if text is None else JsonText(text)


def _checked_time(value: Any) -> Any:
    to_microseconds(value)
    return value


def checked_bytes(value: Any) -> Any:
    """Return the bytes, whatever holds them."""
    if value is None or isinstance(value, bytes | bytearray | memoryview):
        return value
    raise InvalidValue(f"bytes expected, not {_told(value)}")


def _checked_bool(value: Any) -> bool | None:
    if value is None or value is True or value is False:
        return value
    raise InvalidValue(f"True or False expected, not {_told(value)}")


def _to_bool(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _told(value: Any) -> str:
    """Name what came without showing it: values may be a tenant's."""
    if isinstance(value, datetime):
        return "a naive datetime"
    return type(value).__name__
