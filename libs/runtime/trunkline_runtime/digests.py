"""Digests of several parts, from which ids are derived: no two lists of parts share one by joining."""

from __future__ import annotations

import base64
import hashlib


def digest(*parts: str | bytes, width: int = 4) -> bytes:
    """Return the SHA-256 of the parts, each led by its length in `width` bytes: ("ab", "c") is not ("a", "bc").

    Text may hold lone surrogates. The width is part of what an id derives from: whoever has used one keeps it.
    """
    return hashlib.sha256(laid(*parts, width=width)).digest()  # one call: cheaper than one a part


def laid(*parts: str | bytes, width: int = 4) -> bytes:
    """Return what `digest` hashes, for whoever hashes many lists of parts that begin alike."""
    found: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found += (len(data).to_bytes(width, "big"), data)
    return b"".join(found)


def letters(data: bytes, length: int) -> str:
    """Return the first `length` characters of lower-case base32, 5 bits each."""
    needed = data[: -(-length // 8) * 5]  # the encoding is slow, and eight letters are five bytes
    return base64.b32encode(needed).decode("ascii").lower()[:length]
