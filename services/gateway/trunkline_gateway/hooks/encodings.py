"""Bodies that come compressed: verified as they were sent, or as they were written, and kept as they were written."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping

from trunkline_gateway.hooks.settings import MOST_BODY_BYTES
from trunkline_gateway.providers.base import Delivery, Malformed, Rejected, Source, TooLarge
from trunkline_gateway.providers.registry import adapter_for

HEADER = "content-encoding"
MOST_OPENED = MOST_BODY_BYTES
"""Of a body that was kept compressed and is looked at later.

The most that a receiver's limit can be, and not what it is now: it was answered 202 under the limit of then.
"""
OPENED_BYTES = 32 << 20
"""Of bodies that are looked at together, opened: with so much, what was looked at is written before the others."""
_GZIP = frozenset({"gzip", "x-gzip"})
# No encoding; some senders write the characters' one into the header, or that there is none.
_NONE = frozenset({"", "identity", "none", "utf-8", "utf8", "us-ascii", "iso-8859-1", "binary"})
_GZIP_HEAD = b"\x1f\x8b"
_GZIP_OR_ZLIB = 47
_MEMBERS_MOST = 100


class UnknownEncoding(ValueError):
    """The body has an encoding that is not taken; the text says which are."""


class OpenedTooLarge(Malformed):
    """The body is larger than allowed once it is decompressed; how large is never found out."""


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Tell whether a body comes compressed. Raises UnknownEncoding."""
    encoding = headers.get(HEADER)
    if not encoding:
        return False
    # HTTP's own spaces: what is kept of a header must mean the same.
    named = [part.strip(" \t") for part in encoding.lower().split(",")]
    encodings = [part for part in named if part not in _NONE]
    if not encodings:
        return False
    if len(encodings) == 1 and encodings[0] in _GZIP:
        return True
    raise UnknownEncoding("the header Content-Encoding must be gzip, identity or missing")


def verified(source: Source, delivery: Delivery, most: int = MOST_OPENED) -> Delivery:
    """Verify a delivery that comes compressed; return it with its body as it was written.

    Whether a sender signs before it compresses or after, only one who knows the secret can have made either.
    Raises Rejected, and TooLarge when it cannot be told because that makes more than `most` bytes; of one that its
    sender signed as it came, Malformed when it cannot be decompressed, OpenedTooLarge when it is too large then.
    """
    adapter = adapter_for(source.provider)
    as_sent = ""
    try:
        adapter.verify(source, delivery)
    except Rejected as rejected:
        as_sent = str(rejected)  # the error itself would hold this frame, and with it the opened body
    try:
        opened = dataclasses.replace(delivery, body=decompressed(delivery.body, most))
    except Malformed as damaged:
        if as_sent:
            if isinstance(damaged, OpenedTooLarge):
                raise TooLarge(str(damaged)) from None
            raise Rejected(f"{as_sent}, and {damaged}") from None
        raise
    if as_sent:
        adapter.verify(source, opened)
    return opened


def verified_as_written(source: Source, delivery: Delivery, most: int = MOST_OPENED) -> Delivery:
    """Verify a delivery; return it, or one with its body as it was written where it came compressed.

    Raises UnknownEncoding, and what `verified` raises.
    """
    if is_encoded(delivery.headers):
        return verified(source, delivery, most)
    adapter_for(source.provider).verify(source, delivery)
    return delivery


def decompressed(body: bytes, most: int) -> bytes:
    """Return what a gzip body holds; one that is none, whatever its header says, as it is.

    Raises Malformed, OpenedTooLarge. Takes at most `most` bytes of memory more.
    """
    if not body.startswith(_GZIP_HEAD):
        return body
    found = bytearray()
    left = body
    for _ in range(_MEMBERS_MOST):
        decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            found += decoder.decompress(left, most + 1 - len(found))
        except zlib.error:
            raise Malformed("the body is damaged: it cannot be decompressed") from None
        if len(found) > most:
            raise OpenedTooLarge(f"the body is larger than {most} bytes when it is decompressed")
        if not decoder.eof:
            raise Malformed("the body ends before what was compressed does")
        left = decoder.unused_data
        if not left.startswith(_GZIP_HEAD):
            return bytes(found)
    raise Malformed(f"the body must be at most {_MEMBERS_MOST} compressed parts")
