"""Reading a payload whose types wobble: numbers as text, text as numbers, odd values where nobody needs them.

Every reader takes the names a field goes by, the preferred first, and answers None when nothing is stated. What
cannot be read is left out and noted in `warnings`, which name the field and what is allowed, never what came:
one odd optional field must not cost the whole event. Only ids are strict, since they say which event it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import orjson
from google.protobuf.duration_pb2 import Duration

from trunkline_gateway.json_bounds import TooMuch, check
from trunkline_gateway.providers.base import Malformed
from trunkline_gateway.providers.bodies import JsonBody, form_members, is_form
from trunkline_gateway.providers.scalars import TEXT_MOST, as_duration, as_text, as_time, is_rounded

_LIST_MOST = 200
_URL_MOST = 4_096
_WARNINGS_MOST = 50
_WARNING_MOST = 300
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_TRUE = frozenset({"true", "1", "yes", "t"})
_FALSE = frozenset({"false", "0", "no", "f"})
T = TypeVar("T")


def parse(body: bytes, content_type: str) -> Payload:
    """Return the payload of a JSON or a form body. Raises `Malformed`."""
    if is_form(content_type, body):
        return Payload(form_members(body))
    parsed = JsonBody(body)
    return Payload(parsed.members, lambda: parsed.as_written)


class Payload:
    """The members of one payload, read by the names they go by."""

    def __init__(self, fields: Mapping[str, Any], as_written: Callable[[], Mapping[str, Any]] | None = None):
        """Wrap the members; `as_written` gives them with numbers as text, where they are of JSON."""
        self._fields = fields
        self._as_written = as_written
        self._warnings: list[str] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was left out or cut so far."""
        return tuple(self._warnings)

    def warn(self, message: str) -> None:
        """Note that something is left out."""
        message = message[:_WARNING_MOST]
        if message not in self._warnings and len(self._warnings) < _WARNINGS_MOST:
            self._warnings.append(message)

    def has(self, name: str) -> bool:
        """Say whether the payload has such a member, be it empty."""
        return name in self._fields

    def raw(self, name: str) -> Any:
        """Return a member as it came, or None."""
        return self._fields.get(name)

    def text(self, *names: str, most: int = TEXT_MOST) -> str | None:
        """Return the first member that holds text; never an empty one. Longer text is cut."""
        return self._first(names, lambda value, name: self.as_text(value, name, most)) or None

    def edited(self, name: str, most: int = TEXT_MOST) -> str | None:
        """Return a text that people edit: "" when it was taken away, None when nothing readable is stated."""
        if name not in self._fields:
            return None
        value = self._fields[name]
        try:
            return "" if value is None else self.as_text(value, name, most)
        except Malformed as odd:
            self._leave_out(odd)
            return None

    def as_text(self, value: Any, name: str, most: int) -> str:
        """Return a value as text, cut with a warning. Raises `Malformed`."""
        text = as_text(value, name, most + 1)
        if len(text) > most:
            self.warn(f"{name} was cut to {most} characters")
        return text[:most]

    def cut(self, items: list[T], name: str, most: int = _LIST_MOST) -> list[T]:
        """Return the first items of a list, with a warning when there are more."""
        if len(items) > most:
            self.warn(f"{name} was cut to {most} items")
        return items[:most]

    def identifier(self, *names: str) -> str | None:
        """Return an id: 1 to 128 letters, digits, `_` and `-`, so that it can stand in a URL's path.

        Raises `Malformed` for any other.
        """
        for name in names:
            value = self._fields.get(name)
            if type(value) is str and _IDENTIFIER.fullmatch(value):
                return value
            if self._as_written is not None and is_rounded(value):
                value = self._as_written()[name]
            if _is_stated(value):
                text = as_text(value, name)
                if isinstance(value, bool) or not _IDENTIFIER.fullmatch(text):
                    raise Malformed(f"{name} must be 1 to 128 letters, digits, _ and -")
                return text
        return None

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
            value = _unpacked(value, name, "[")
            if isinstance(value, str):
                value = value.split(",", _LIST_MOST)
            if not isinstance(value, list):
                raise Malformed(f"{name} must be a list of texts")
            items = [item.get("name") if isinstance(item, dict) else item for item in self.cut(value, name)]
            one = f"an item of {name}"
            return [text for item in items if item is not None and (text := self.as_text(item, one, 256))]

        return self._first(names, read)

    def urls(self, name: str) -> list[str]:
        """Return a list of URLs, given as one, as JSON or as one text; commas belong to a URL."""

        def read(value: Any, name: str) -> list[str]:
            value = _unpacked(value, name, "[")
            items = self.cut(value if isinstance(value, list) else [value], name)
            texts = [text for item in items if (text := as_text(item, name, _URL_MOST + 1))]
            whole = [text for text in texts if len(text) <= _URL_MOST]
            if len(whole) < len(texts):  # half a URL leads nowhere
                self.warn(f"an item of {name} must be at most {_URL_MOST} characters; it was left out")
            return whole

        return self._first((name,), read) or []

    def members(self, name: str) -> dict[str, Any]:
        """Return an object's members, given as one, as JSON text or as a list of names and values."""

        def read(value: Any, name: str) -> dict[str, Any]:
            value = _unpacked(value, name, "{[")
            if isinstance(value, list):
                pairs = (item for item in self.cut(value, name) if isinstance(item, dict))
                value = {str(item.get("name", item.get("field", ""))): item.get("value") for item in pairs}
            if not isinstance(value, dict):
                raise Malformed(f"{name} must be an object")
            return value

        return self._first((name,), read) or {}

    def _first(self, names: tuple[str, ...], read: Callable[[Any, str], T]) -> T | None:
        for name in names:
            value = self._fields.get(name)
            if _is_stated(value):
                try:
                    return read(value, name)
                except Malformed as odd:
                    self._leave_out(odd)
        return None

    def _leave_out(self, odd: Malformed) -> None:
        self.warn(f"{str(odd)[: _WARNING_MOST - 20]}; it was left out")


def _is_stated(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip())


def _unpacked(value: Any, name: str, begins: str) -> Any:
    """Return what JSON inside of a text says, where it looks like that."""
    if not isinstance(value, str) or value.lstrip()[:1] not in tuple(begins):
        return value
    try:
        found = orjson.loads(value)
        check(found, value.encode())
    except TooMuch as error:
        raise Malformed(f"{name} {error}") from None
    except ValueError:  # also text that is no Unicode
        raise Malformed(f"{name} is no JSON") from None
    return found
