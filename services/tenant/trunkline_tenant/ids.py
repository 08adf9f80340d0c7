"""Names that derive from what they name: call ids, lead ids, etags, and the number a caller is known by."""

from __future__ import annotations

import base64
import hashlib
import re

_FORMATTING = re.compile(r"[\s().\-/]+")
_NUMBER = re.compile(r"\+?[0-9]{3,15}")
# What carriers send in place of a number that is withheld, spelled on a keypad (ANONYMOUS, RESTRICTED, ...).
_WITHHELD = {"266696687", "7378742833", "2562533", "8656696", "86282452253"}


def digest(*parts: str | bytes) -> bytes:
    """Return the SHA-256 of the parts, each with its length before it: ("ab", "c") is not ("a", "bc")."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "big"))
        sha.update(data)
    return sha.digest()


def short(data: bytes, length: int) -> str:
    """Return the first `length` characters of lower-case base32, 5 bits each."""
    return base64.b32encode(data).decode().lower()[:length]


def call_id(tenant: str, provider: int, account: str, provider_call_id: str) -> str:
    """Return the id of a call: the same for every event about it, apart for every tenant and account."""
    return "c" + short(digest(tenant, str(provider), account, provider_call_id), 26)


def lead_id(tenant: str, number: str) -> str:
    """Return the id of the lead that a number stands for."""
    return "l" + short(digest(tenant, number), 26)


def etag(*parts: str | bytes) -> str:
    """Return an etag of that content."""
    return short(digest(*parts), 16)


def plain_number(number: str) -> str:
    """Return a telephone number without its formatting; anything else as it is.

    Lists filter by this form and leads are known by it, so that `(404) 555-8514` and `404-555-8514` are one.
    """
    plain = _FORMATTING.sub("", number)
    return plain if _NUMBER.fullmatch(plain) else number


def names_a_caller(number: str) -> bool:
    """Tell whether a plain number belongs to somebody: not withheld, not a word such as `anonymous`."""
    return _NUMBER.fullmatch(number) is not None and number.lstrip("+") not in _WITHHELD
