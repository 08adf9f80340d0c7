"""What verifying signatures has in common: prepared keys, secrets that still count, texts to compare.

The hot path: 20,000 deliveries a second go through here, so it makes no object that it does not need.
"""

from __future__ import annotations

import hmac
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

from trunkline.tenant.v1 import source_pb2

from trunkline_gateway.providers.base import Rejected, Secret

# A secret's text keeps its hash once computed, so a hit costs less than encoding it again.
_PREPARED_MOST = 16_384
# The most that hashlib hashes without letting go of the interpreter, and from where on it should: 50 microseconds.
_PIECE = 2047
_LET_GO = 64 << 10
PARTS_MOST = 32
"""Of a header that holds several signatures: no sender rotates more secrets, and a stranger's could hold thousands."""
_URL_SAFE = str.maketrans("-_", "+/")


@lru_cache(maxsize=_PREPARED_MOST)
def text_key(secret: str) -> bytes:
    """Return the key of a secret that is used as it is written."""
    return secret.encode("utf-8", "surrogateescape")


@lru_cache(maxsize=_PREPARED_MOST)
def formed_key(secret: str, form: int) -> bytes:
    """Return the key of a secret that is written in a `SecretForm`. Raises `Rejected`."""
    try:
        if form == source_pb2.SECRET_FORM_BASE64:
            return _from_base64(secret)
        if form == source_pb2.SECRET_FORM_HEX:
            return bytes.fromhex(secret)
    except (BinasciiError, ValueError):
        form_of_it = "hexadecimal" if form == source_pb2.SECRET_FORM_HEX else "whsec_ and base64"
        raise Rejected(f"the source's secret is not {form_of_it}") from None
    return text_key(secret)


def _from_base64(secret: str) -> bytes:
    """Decode base64 as people paste it: `v1,` or `whsec_` before it, its padding lost, either alphabet."""
    encoded = secret.strip().removeprefix("v1,").removeprefix("whsec_").rstrip("=").translate(_URL_SAFE)
    return a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)


def usable(secrets: tuple[Secret, ...], at: datetime) -> Iterator[str]:
    """Give the secrets that verify at that time, in their order. Raises `Rejected` when there is none."""
    found = False
    for secret in secrets:
        if secret.value and (secret.expires is None or at < secret.expires):
            found = True
            yield secret.value
    if not found:
        raise Rejected("the source has no secret that is valid now")


def signature_bytes(value: str | None, header: str) -> bytes:
    """Return a signature header's value as bytes to compare. Raises `Rejected` when missing or not ASCII."""
    if not value:
        raise Rejected(f"the header {header} is missing")
    if not value.isascii():
        raise Rejected(f"the header {header} is not a signature")
    return value.encode("ascii")


def base64_hmac(key: bytes, message: bytes, algorithm: str) -> bytes:
    """Return the HMAC as base64 text, which is what is compared: several texts decode to the same bytes."""
    return b2a_base64(hmac_digest(key, message, algorithm), newline=False)


def hmac_digest(key: bytes, message: bytes, algorithm: str) -> bytes:
    """Return the HMAC, without letting go of the interpreter for a message of a webhook's size.

    `hmac.digest`, and `update` with more than 2,047 bytes, hand the interpreter to whoever waits for it. Here that is
    the thread that commits; taking it back cost the event loop more than the hashing, once a webhook.
    """
    if len(message) > _LET_GO:
        return hmac.digest(key, message, algorithm)
    mac = _keyed(key, algorithm).copy()
    if len(message) <= _PIECE:
        mac.update(message)
    else:
        view = memoryview(message)
        for start in range(0, len(message), _PIECE):
            mac.update(view[start : start + _PIECE])
    return mac.digest()


@lru_cache(maxsize=_PREPARED_MOST)
def _keyed(key: bytes, algorithm: str) -> hmac.HMAC:
    return hmac.new(key, digestmod=algorithm)


def unix_time(value: str | None, name: str, at: datetime, tolerance_seconds: float) -> str:
    """Return the text of a timestamp, in seconds or milliseconds, that is close enough to `at`. Raises `Rejected`."""
    if not value:
        raise Rejected(f"the {name} is missing")
    if not (value.isascii() and value.isdigit() and len(value) <= 13):
        raise Rejected(f"the {name} must be unix seconds or milliseconds")
    sent = int(value) / (1000 if len(value) == 13 else 1)
    if abs(at.timestamp() - sent) > tolerance_seconds:
        raise Rejected(f"the {name} is more than {tolerance_seconds:g} seconds off")
    return value
