"""From the bytes of a body to its members: JSON or form, also where a sender's encoder was careless."""

from __future__ import annotations

import codecs
import json
import re
from functools import cached_property, lru_cache
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson

from trunkline_gateway.json_bounds import TooMuch, check
from trunkline_gateway.providers.base import Malformed

FORM = "application/x-www-form-urlencoded"
_FORM_FIELDS_MOST = 1_000
_LIGHT_FORM_BYTES = 2_048
_LIGHT_FORM_SIGNS = 100
_LISTED = re.compile(r"([^\[\]]{1,200})\[\d{0,5}\]", re.ASCII)
_NESTED = re.compile(r"([^\[\]]{1,200})\[([^\[\]]{1,200})\]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_NO_OBJECT = "the body must be a JSON object"


def is_form(content_type: str, body: bytes) -> bool:
    """Say whether a body is form-encoded: as its type says, or, of another type, by not looking like JSON."""
    kind = _kind(content_type)
    begin = body.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if kind == FORM:
        return begin != b"{"  # some accounts post JSON under the form's type
    return "json" not in kind and begin not in (b"{", b"[", b"")


@lru_cache(maxsize=256)
def _kind(content_type: str) -> str:
    return content_type.split(";", 1)[0].strip().lower()


def is_heavy_form(body: bytes) -> bool:
    """Tell whether splitting a form takes more than a tenth of a millisecond or so: then a thread does it."""
    return len(body) > _LIGHT_FORM_BYTES or body.count(b"&") + body.count(b"%") > _LIGHT_FORM_SIGNS


def parse_form(body: bytes, errors: str = "replace") -> list[tuple[str, str]]:
    """Return the fields of a form in their order. Raises `Malformed`.

    `errors` is what becomes of bytes that are not UTF-8: U+FFFD, or "strict" for a signature, which covers bytes.
    """
    try:
        text = body.decode("utf-8", errors)
        return parse_qsl(text, keep_blank_values=True, errors=errors, max_num_fields=_FORM_FIELDS_MOST)
    except ValueError:  # not UTF-8, or too many fields
        message = f"the body must be form-encoded UTF-8 with at most {_FORM_FIELDS_MOST} fields"
        raise Malformed(message) from None


def form_members(body: bytes) -> dict[str, Any]:
    """Return the members of a form: `name[]` and repeated names make lists, `name[key]` an object."""
    members: dict[str, Any] = {}
    for written, value in parse_form(body):
        listed, nested = _LISTED.fullmatch(written), _NESTED.fullmatch(written)
        name = listed[1] if listed else nested[1] if nested else written
        there = members.get(name)
        if nested and not listed:
            if there is None:
                there = members[name] = {}
            if isinstance(there, dict):
                there.setdefault(nested[2], value)
        elif name not in members:
            members[name] = [value] if listed else value
        elif isinstance(there, list):
            there.append(value)
        elif not isinstance(there, dict):
            members[name] = [there, value]
    return members


def parse_json(body: bytes) -> dict[str, Any]:
    """Return the members of a JSON object. Raises `Malformed`.

    Bytes that are not UTF-8 and halves of surrogate pairs become U+FFFD; NaN and the like become null.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _parse_careless(body)
    if not isinstance(value, dict):
        raise Malformed(_NO_OBJECT)
    try:
        check(value, body)
    except TooMuch as error:
        raise Malformed(f"the body {error}") from None
    return value


class JsonBody:
    """A JSON object that is parsed when its members are first asked for, and once: a large one costs 10 ms."""

    def __init__(self, body: bytes):
        self._body = body

    @cached_property
    def members(self) -> dict[str, Any]:
        """See `parse_json`. Raises `Malformed`."""
        return parse_json(self._body)

    @cached_property
    def as_written(self) -> dict[str, Any]:
        """The members once more, with every number as the text that the sender wrote.

        `members` has numbers rounded to 64 bits, so two ids may be equal there that are not.
        """
        text = self._body.decode(json.detect_encoding(self._body), "replace").removeprefix("\ufeff")
        value = _mended(json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None))
        return cast(dict[str, Any], value)


def _parse_careless(body: bytes) -> Any:
    """Parse what a strict parser refuses and a sender's own takes; slower, so only then."""
    try:
        text = body.decode(json.detect_encoding(body), "replace").removeprefix("\ufeff")
        return _mended(json.loads(text, parse_int=_whole, parse_constant=lambda _: None))
    except (ValueError, RecursionError):
        raise Malformed(_NO_OBJECT) from None


def _whole(text: str) -> int | float:
    """A whole number as orjson has it: what is longer than 64 bits is rounded."""
    return int(text) if len(text) < 20 else float(text)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(name): _mended(item) for name, item in value.items()}
    return value
