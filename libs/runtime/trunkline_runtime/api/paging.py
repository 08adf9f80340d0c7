"""Opaque page tokens: where the next page begins, and a check that the question is still the same."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from trunkline_runtime.errors import InvalidArgument

Key = str | int | float | bool | None | datetime
DEFAULT_PAGE_SIZE = 50
MOST_PAGE_SIZE = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = "t"
_MOST_TOKEN = 4_096
_INT64 = 2**63


class Paged(Protocol):
    """A request for a page of a list."""

    page_size: int
    page_token: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page lies: `size` rows behind the key that the token of the page before holds.

    `trunkline_store.records.keyset.Page` reads the page.
    """

    size: int
    token: str
    digest: str

    def after(self, kinds: Sequence[type]) -> tuple[Key, ...] | None:
        """Return the key that the page begins behind; see `decode`."""
        return decode(self.token, self.digest, kinds)

    def next(self, key: Sequence[Key]) -> str:
        """Return the token of the page behind the row with this key."""
        return encode(key, self.digest)


def place_of(request: Paged, *unchanged: str) -> Place:
    """Return the place of the page that a request asks for. Raises InvalidArgument("page_size").

    `unchanged` is what must be the same from page to page: the list, its parent, filter and order.
    """
    return Place(page_size(request.page_size), request.page_token, digest_of_request(*unchanged))


def page_size(requested: int, *, default: int = DEFAULT_PAGE_SIZE, most: int = MOST_PAGE_SIZE) -> int:
    """Return how many rows to give: `default` when 0 was asked for, `most` at most."""
    if requested < 0:
        raise InvalidArgument("page_size", "must not be negative")
    return min(requested or default, most)


def digest_of_request(*parts: str) -> str:
    """Return a short digest of what must not change between pages: parent, filter, order_by."""
    joined = json.dumps(parts, ensure_ascii=True).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(joined).digest()[:9]).decode("ascii")


def encode(key: Sequence[Key], digest_of_request: str) -> str:
    """Return the token of the page that begins after the row with this key (text, numbers, aware times)."""
    values = [
        {_TIME: (v - _EPOCH) // timedelta(microseconds=1)} if isinstance(v, datetime) else v for v in key
    ]
    raw = json.dumps([digest_of_request, values], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def decode(token: str, digest_of_request: str, kinds: Sequence[type]) -> tuple[Key, ...] | None:
    """Return the key that a token holds, None for the empty token (the first page).

    `kinds` are the types of the key's values: a token that somebody wrote by hand gives no others, and none that a
    store does not take.
    Raises InvalidArgument("page_token") when it is not one of ours, or when filter or order changed since.
    """
    if not token:
        return None
    try:
        if len(token) > _MOST_TOKEN:
            raise ValueError(len(token))
        raw = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        digest, values = json.loads(raw)
        if not isinstance(values, list):
            raise TypeError(type(values))
        key = tuple(_value(v) for v in values)
        if [type(v) for v in key] != list(kinds):
            raise TypeError(kinds)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise InvalidArgument("page_token", "is not a valid page token") from None
    if digest != digest_of_request:
        raise InvalidArgument(
            "page_token", "belongs to another parent, filter or order_by; start at the first page"
        )
    return key


def _value(raw: object) -> Key:
    if isinstance(raw, dict):
        return _EPOCH + timedelta(microseconds=int(raw[_TIME]))
    if isinstance(raw, str):
        raw.encode()  # a lone surrogate is no text
    if isinstance(raw, int) and not -_INT64 <= raw < _INT64:
        raise ValueError(raw)
    if raw is None or isinstance(raw, str | int | float):
        return raw
    raise TypeError(type(raw))
