"""Reading a payload whose types wobble: JSON or form, numbers as text and text as numbers.

Every reader takes the names a field goes by, the preferred first, and answers None when nothing is stated.
What cannot be read raises `Malformed`, which names the field and what is allowed, never what came.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from trunkline_gateway.json_bounds import TooMuch, check
from trunkline_gateway.providers.base import Malformed

FORM = "application/x-www-form-urlencoded"
TEXT_MOST = 2_000
CONTENT_MOST = 100_000
_FORM_FIELDS_MOST = 1_000
_DURATION_MOST_SECONDS = 31 * 86_400
_LIST_MOST = 200
_TIME_MOST = 100
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_UNIX_TIME = re.compile(r"\d{9,11}(\.\d+)?", re.ASCII)
_LISTED = re.compile(r"(.+)\[\d*\]", re.ASCII)
_TRUE = frozenset({"true", "1", "yes", "t"})
_FALSE = frozenset({"false", "0", "no", "f"})
T = TypeVar("T")


def is_form(content_type: str, body: bytes) -> bool:
    """Say whether a body is form-encoded: as its type says, or, of another type, by not looking like JSON."""
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind == FORM:
        return body.lstrip()[:1] != b"{"  # some accounts post JSON under the form's type
    return "json" not in kind and body.lstrip()[:1] not in (b"{", b"[", b"")


def parse_form(body: bytes) -> list[tuple[str, str]]:
    """Return the fields of a form in their order. Raises `Malformed`."""
    try:
        return parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS_MOST
        )
    except ValueError:  # not UTF-8, or too many fields
        message = f"the body must be form-encoded UTF-8 with at most {_FORM_FIELDS_MOST} fields"
        raise Malformed(message) from None


def parse_json(body: bytes) -> dict[str, Any]:
    """Return the members of a JSON object. Raises `Malformed`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("the body must be a JSON object") from None
    if not isinstance(value, dict):
        raise Malformed("the body must be a JSON object")
    try:
        check(value, body)
    except TooMuch as error:
        raise Malformed(f"the body {error}") from None
    return value


def parse(body: bytes, content_type: str) -> Payload:
    """Return the payload of a JSON or a form body; of a form, `name[]` and repeated names make lists."""
    if not is_form(content_type, body):
        return Payload(parse_json(body))
    fields: dict[str, Any] = {}
    for written, value in parse_form(body):
        listed = _LISTED.fullmatch(written)
        name = listed[1] if listed else written
        if name not in fields:
            fields[name] = [value] if listed else value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return Payload(fields)


def clean(value: str, most: int) -> str:
    """Return text that any store takes: no NUL, no space around it, at most so many characters."""
    return value.replace("\0", "").strip()[:most]


def as_text(value: Any, name: str, most: int = TEXT_MOST) -> str:
    """Return a scalar as text. Raises `Malformed` for objects and lists."""
    if isinstance(value, str):
        return clean(value, most)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    raise Malformed(f"{name} must be text")


def as_time(value: Any, name: str) -> datetime:
    """Return a time given as ISO 8601 text (UTC when it names no zone), an RFC 2822 date or unix seconds."""
    moment: datetime | None = None
    try:
        if isinstance(value, str):
            text = value.strip() if len(value) <= _TIME_MOST else ""
            if _UNIX_TIME.fullmatch(text):
                moment = datetime.fromtimestamp(float(text), UTC)
            elif text[:1].isdigit():
                moment = datetime.fromisoformat(text)
            else:
                moment = parsedate_to_datetime(text)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        if moment is not None:
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        moment = None
    if moment is None or moment.year < 1971 or moment.year > 9998:
        raise Malformed(f"{name} must be an ISO 8601 time or unix seconds")
    return moment


def as_duration(value: Any, name: str) -> Duration:
    """Return seconds, given as a number or as text, as a duration."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        if isinstance(value, str) and len(value) > _TIME_MOST:
            raise ValueError
        seconds = float(value)
        if not (math.isfinite(seconds) and 0 <= seconds <= _DURATION_MOST_SECONDS):
            raise ValueError
    except (ValueError, OverflowError):
        raise Malformed(f"{name} must be seconds from 0 to {_DURATION_MOST_SECONDS}") from None
    return Duration(seconds=int(seconds), nanos=int((seconds % 1) * 1_000) * 1_000_000)


def timestamp(moment: datetime) -> Timestamp:
    """Return a time as protobuf writes it."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


class Payload:
    """The members of one payload, read by the names they go by."""

    def __init__(self, fields: Mapping[str, Any]):
        """Wrap the members."""
        self._fields = fields

    def has(self, name: str) -> bool:
        """Say whether the payload has such a member, be it empty."""
        return name in self._fields

    def raw(self, name: str) -> Any:
        """Return a member as it came, or None."""
        return self._fields.get(name)

    def _first(self, names: tuple[str, ...], read: Callable[[Any, str], T]) -> T | None:
        for name in names:
            value = self._fields.get(name)
            if value is not None and not (isinstance(value, str) and not value.strip()):
                return read(value, name)
        return None

    def text(self, *names: str, most: int = TEXT_MOST) -> str | None:
        """Return the first member that holds text; never an empty one."""
        return self._first(names, lambda value, name: as_text(value, name, most)) or None

    def identifier(self, *names: str) -> str | None:
        """Return an id: 1 to 128 letters, digits, `_` and `-`, so that it can stand in a URL's path."""

        def read(value: Any, name: str) -> str:
            text = as_text(value, name)
            if isinstance(value, bool) or not _IDENTIFIER.fullmatch(text):
                raise Malformed(f"{name} must be 1 to 128 letters, digits, _ and -")
            return text

        return self._first(names, read)

    def flag(self, *names: str) -> bool | None:
        """Return a yes or no: a boolean, 0 or 1, or their texts."""

        def read(value: Any, name: str) -> bool:
            text = as_text(value, name).lower()
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
            raise Malformed(f"{name} must be true or false")

        return self._first(names, read)

    def time(self, *names: str) -> datetime | None:
        """Return a time, see `as_time`."""
        return self._first(names, as_time)

    def duration(self, *names: str) -> Duration | None:
        """Return a duration, see `as_duration`."""
        return self._first(names, as_duration)

    def texts(self, *names: str) -> list[str] | None:
        """Return a list of texts, given as one, as objects with a name, as JSON or as text with commas."""

        def read(value: Any, name: str) -> list[str]:
            if isinstance(value, str) and value.lstrip()[:1] == "[":
                try:
                    value = orjson.loads(value)
                except orjson.JSONDecodeError:
                    raise Malformed(f"{name} must be a list of texts") from None
            if isinstance(value, str):
                value = value.split(",", _LIST_MOST)
            if not isinstance(value, list):
                raise Malformed(f"{name} must be a list of texts")
            items = (item.get("name") if isinstance(item, dict) else item for item in value[:_LIST_MOST])
            return [text for item in items if item is not None and (text := as_text(item, name, 256))]

        return self._first(names, read)
