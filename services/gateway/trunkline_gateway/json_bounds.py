"""How much a JSON body may hold, and which bodies are not read on the event loop.

Bytes alone do not tell what a body costs: 31 kB of `{"a":1,"a":1,...` are 5,000 members, each of which is looked at.
"""

from __future__ import annotations

from typing import Any

MOST_VALUES = 10_000
"""Members of objects and items of lists, in all."""
MOST_DEPTH = 64
_LIGHT_BYTES = 32 * 1024
_LIGHT_VALUES = 500
_SHORT_BYTES = 2 * 1024
_SIGNS = (b",", b"&", b"%")


class TooMuch(ValueError):
    """A document holds more than is read; the text says what the bound is."""


def is_long(body: bytes) -> bool:
    """Tell whether its bytes alone make a body slow to read: a megabyte of `%41` takes a third of a second."""
    return len(body) >= _LIGHT_BYTES


def is_heavy(body: bytes) -> bool:
    """Tell whether a body takes more than a millisecond or so to read: then a thread does it."""
    if (
        len(body) <= _SHORT_BYTES and body[:1] == b"{"
    ):  # no form, whose fields cost more each than a document's values
        return False
    return is_long(body) or sum(body.count(sign) for sign in _SIGNS if sign in body) > _LIGHT_VALUES


def check(value: Any, body: bytes) -> None:
    """Check a document against the bounds; `body` is what it was read from. Raises TooMuch."""
    few = len(body) <= MOST_VALUES or body.count(b",") <= MOST_VALUES  # every further member needs a comma
    if few and _holds(body, b"{", MOST_DEPTH // 2) and _holds(body, b"[", MOST_DEPTH // 2):
        return
    left = MOST_VALUES
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        left -= len(level)
        if left < 0:
            raise TooMuch(f"must hold at most {MOST_VALUES} values")
        if not level:
            return
    raise TooMuch(f"must be nested at most {MOST_DEPTH} deep")


def _holds(body: bytes, sign: bytes, most: int) -> bool:
    """Tell whether a sign is there at most so often: sought, which takes a fifth of the time of counting few."""
    at = -1
    for _ in range(most + 1):
        at = body.find(sign, at + 1)
        if at < 0:
            return True
    return False


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
