"""Secrets as people paste them: trimmed, checked for what the provider needs, and made where the receiver chooses."""

from __future__ import annotations

import base64
import binascii
import secrets

from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_runtime.errors import InvalidArgument

# The provider makes the secret: the tenant copies it from there.
_GIVEN = {
    provider_pb2.PROVIDER_CALLRAIL: "the company's signing key, from CallRail's integration settings",
    provider_pb2.PROVIDER_TWILIO: "the account's auth token, from Twilio's console",
}
_STANDARD_PREFIX = "whsec_"
_VERSION = "v1,"
_STANDARD_BYTES = (24, 64)
_MOST_BYTES = 512
_URL_SAFE = str.maketrans("-_", "+/")
# What copying takes along beside spaces: zero-width characters and a byte order mark.
_UNSEEN = " \t\r\n\u00a0\u200b\u200c\u200d\u2060\ufeff"


def cleaned(
    provider: provider_pb2.Provider.ValueType, form: source_pb2.SecretForm.ValueType, secret: str, field: str
) -> str:
    """Return a secret as it is kept: without what copying added. Raises InvalidArgument for `field`."""
    secret = secret.strip().strip(_UNSEEN)
    if not secret:
        raise InvalidArgument(field, f"is required: {_GIVEN.get(provider, 'it signs the webhooks')}")
    if not secret.isprintable():
        raise InvalidArgument(field, "must not contain control characters")
    if form == source_pb2.SECRET_FORM_HEX:
        return _hexadecimal(secret, field)
    standard = provider == provider_pb2.PROVIDER_STANDARD_WEBHOOKS
    if form == source_pb2.SECRET_FORM_BASE64:
        return _based(secret, field, (1, _MOST_BYTES))
    if standard and form == source_pb2.SECRET_FORM_UNSPECIFIED:
        if not secret.removeprefix(_VERSION).startswith(_STANDARD_PREFIX):
            raise InvalidArgument(
                field,
                "must be whsec_ and then 24 to 64 bytes in base64, as Standard Webhooks says; where the sender signs"
                " with the text itself, set secret_form to SECRET_FORM_TEXT",
            )
        return _STANDARD_PREFIX + _based(secret, field, _STANDARD_BYTES)
    return secret


def made(provider: provider_pb2.Provider.ValueType, form: source_pb2.SecretForm.ValueType, field: str) -> str:
    """Return a new secret. Raises InvalidArgument for `field` where the provider makes it."""
    if provider in _GIVEN:
        raise InvalidArgument(field, f"is required: {_GIVEN[provider]}")
    if form == source_pb2.SECRET_FORM_HEX:
        return secrets.token_hex(32)
    if form == source_pb2.SECRET_FORM_BASE64:
        return base64.b64encode(secrets.token_bytes(32)).decode()
    if provider == provider_pb2.PROVIDER_STANDARD_WEBHOOKS and form == source_pb2.SECRET_FORM_UNSPECIFIED:
        return _STANDARD_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def _based(secret: str, field: str, sizes: tuple[int, int]) -> str:
    """Return the base64 of a secret, whole again: padded, in the usual alphabet, nothing before it."""
    encoded = secret.removeprefix(_VERSION).removeprefix(_STANDARD_PREFIX).rstrip("=").translate(_URL_SAFE)
    encoded += "=" * (-len(encoded) % 4)
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not sizes[0] <= size <= sizes[1]:
        raise InvalidArgument(field, f"must be base64 of {sizes[0]} to {sizes[1]} bytes")
    return encoded


def _hexadecimal(secret: str, field: str) -> str:
    try:
        return bytes.fromhex(secret).hex()
    except ValueError:
        raise InvalidArgument(field, "must be hexadecimal, as secret_form says") from None
