"""What a source of each provider needs and may have; secrets that the receiver chooses are made here."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterator

from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_runtime.errors import InvalidArgument

_NAMES = {
    provider_pb2.PROVIDER_CALLRAIL: "CallRail",
    provider_pb2.PROVIDER_TWILIO: "Twilio",
    provider_pb2.PROVIDER_STANDARD_WEBHOOKS: "Standard Webhooks",
    provider_pb2.PROVIDER_GENERIC_HMAC: "a generic sender",
}
# The provider makes the secret: the tenant copies it from there.
_GIVEN = {
    provider_pb2.PROVIDER_CALLRAIL: "the company's signing key, from CallRail's integration settings",
    provider_pb2.PROVIDER_TWILIO: "the account's auth token, from Twilio's console",
}
_MAPPED = {provider_pb2.PROVIDER_STANDARD_WEBHOOKS, provider_pb2.PROVIDER_GENERIC_HMAC}
_STANDARD_PREFIX = "whsec_"
_STANDARD_BYTES = (24, 64)
_DEFAULT_TOLERANCE_SECONDS = 300

Problem = tuple[str, str]


def complete(source: source_pb2.Source) -> None:
    """Fill in what is taken for what was left out, so that readers see what holds."""
    source.state = source.state or source_pb2.SOURCE_STATE_ACTIVE
    if source.HasField("mapping"):
        source.mapping.kind = source.mapping.kind or source_pb2.PAYLOAD_KIND_RECORD
    if source.HasField("hmac"):
        source.hmac.hash = source.hmac.hash or source_pb2.HASH_ALGORITHM_SHA256
        source.hmac.encoding = source.hmac.encoding or source_pb2.SIGNATURE_ENCODING_HEX
        if source.hmac.timestamp_header and not source.hmac.HasField("tolerance"):
            source.hmac.tolerance.seconds = _DEFAULT_TOLERANCE_SECONDS


def check(source: source_pb2.Source, *, fetches: bool) -> None:
    """Raise InvalidArgument that names every option that does not fit the provider.

    `fetches`: the source has a credential that recordings are fetched with.
    """
    problems = list(_problems(source, fetches))
    if problems:
        raise InvalidArgument.many(problems)


def check_secret(provider: provider_pb2.Provider.ValueType, secret: str, field: str) -> None:
    """Raise InvalidArgument for `field` unless the secret is one of this provider's."""
    if not secret:
        raise InvalidArgument(field, f"is required: {_GIVEN.get(provider, 'it signs the webhooks')}")
    if secret != secret.strip() or not secret.isprintable():
        raise InvalidArgument(field, "must not contain control characters or begin or end with a space")
    if provider == provider_pb2.PROVIDER_STANDARD_WEBHOOKS and not _is_standard(secret):
        raise InvalidArgument(
            field, "must be whsec_ and then 24 to 64 bytes in base64, as Standard Webhooks says"
        )


def make_secret(provider: provider_pb2.Provider.ValueType, field: str) -> str:
    """Return a new secret. Raises InvalidArgument for `field` where the provider makes it."""
    if provider in _GIVEN:
        raise InvalidArgument(field, f"is required: {_GIVEN[provider]}")
    if provider == provider_pb2.PROVIDER_STANDARD_WEBHOOKS:
        return _STANDARD_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def _problems(source: source_pb2.Source, fetches: bool) -> Iterator[Problem]:
    provider = source.provider
    if provider not in _NAMES:
        yield "source.provider", "is required"
        return
    name = _NAMES[provider]
    if provider == provider_pb2.PROVIDER_GENERIC_HMAC:
        if not source.hmac.header:
            yield "source.hmac", "is required: which header of the sender carries the signature"
    elif source.HasField("hmac"):
        yield "source.hmac", f"is for generic senders only: {name} signs in its own way"
    if source.HasField("mapping"):
        if provider in _MAPPED:
            yield from _mapping_problems(source.mapping)
        else:
            yield "source.mapping", f"is not for {name}, whose payloads are known"
    if fetches and provider == provider_pb2.PROVIDER_CALLRAIL and not source.provider_account:
        yield (
            "source.provider_account",
            "is required to fetch recordings: it is part of the URL of CallRail's API",
        )
    if any(ord(c) <= ord(" ") for c in source.provider_account):
        yield "source.provider_account", "must not contain spaces or control characters"


def _mapping_problems(mapping: source_pb2.PayloadMapping) -> Iterator[Problem]:
    if mapping.kind == source_pb2.PAYLOAD_KIND_CALL and not mapping.recording_url:
        yield "source.mapping.recording_url", "is required for events about calls"
    if mapping.kind == source_pb2.PAYLOAD_KIND_TEXT and not mapping.text:
        yield "source.mapping.text", "is required for events about texts"
    for field, path in mapping.ListFields():
        if isinstance(path, str) and not all(path.split(".")):
            yield f"source.mapping.{field.name}", f"{path[:100]!r} is not a dotted path such as data.call.id"


def _is_standard(secret: str) -> bool:
    encoded = secret.removeprefix(_STANDARD_PREFIX)
    if encoded == secret:
        return False
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    return _STANDARD_BYTES[0] <= len(raw) <= _STANDARD_BYTES[1]
