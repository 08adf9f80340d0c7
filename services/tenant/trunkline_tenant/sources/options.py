"""What a source of each provider needs and may have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from phonenumbers import SUPPORTED_REGIONS
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_runtime.errors import InvalidArgument
from trunkline_runtime.language_tags import region_of

_NAMES = {
    provider_pb2.PROVIDER_CALLRAIL: "CallRail",
    provider_pb2.PROVIDER_TWILIO: "Twilio",
    provider_pb2.PROVIDER_STANDARD_WEBHOOKS: "Standard Webhooks",
    provider_pb2.PROVIDER_GENERIC_HMAC: "a generic sender",
}
_MAPPED = {provider_pb2.PROVIDER_STANDARD_WEBHOOKS, provider_pb2.PROVIDER_GENERIC_HMAC}
_DEFAULT_TOLERANCE_SECONDS = 300
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")

# Headers that tell of the request or of its sender, so that none of them holds a signature.
_NO_SIGNATURES = frozenset(
    {
        "accept", "connection", "content-encoding", "content-length", "content-type", "cookie", "date", "expect",
        "host", "proxy-authorization", "transfer-encoding", "upgrade", "user-agent",
    }
)  # fmt: skip
_LEAST_TOLERANCE_SECONDS = 1

Problem = tuple[str, str]


def complete(source: source_pb2.Source) -> None:
    """Fill in what is taken for what was left out, so that readers see what holds."""
    source.state = source.state or source_pb2.SOURCE_STATE_ACTIVE
    if source.HasField("mapping"):
        source.mapping.kind = source.mapping.kind or source_pb2.PAYLOAD_KIND_RECORD
    if source.HasField("hmac"):
        source.hmac.hash = source.hmac.hash or source_pb2.HASH_ALGORITHM_SHA256
        source.hmac.encoding = source.hmac.encoding or source_pb2.SIGNATURE_ENCODING_HEX
        if (source.hmac.timestamp_header or source.hmac.timestamp_part) and not source.hmac.HasField(
            "tolerance"
        ):
            source.hmac.tolerance.seconds = _DEFAULT_TOLERANCE_SECONDS


def check_region(source: source_pb2.Source) -> None:
    """Raise InvalidArgument for a region without telephone numbers: one needs a country code to be read there."""
    if source.region and source.region not in SUPPORTED_REGIONS:
        raise InvalidArgument(
            "source.region",
            f"{source.region} is not a region with telephone numbers; one such as US, or empty",
        )


def check(source: source_pb2.Source, *, needs_account: bool) -> None:
    """Raise InvalidArgument that names every option that does not fit the provider.

    `needs_account`: recordings are or will be fetched, so that the account must be known where the provider's API asks
    for it. Sources of earlier releases may be without.
    """
    problems = list(_problems(source, needs_account))
    if problems:
        raise InvalidArgument.many(problems)


def _problems(source: source_pb2.Source, needs_account: bool) -> Iterator[Problem]:
    provider = source.provider
    if provider not in _NAMES:
        yield (
            "source.provider",
            f"is required: one of {', '.join(map(provider_pb2.Provider.Name, sorted(_NAMES)))}",
        )
        return
    name = _NAMES[provider]
    if provider == provider_pb2.PROVIDER_GENERIC_HMAC:
        if not source.hmac.header:
            yield "source.hmac", "is required: the header with the sender's signature"
        yield from _hmac_problems(source.hmac)
    elif source.HasField("hmac"):
        yield "source.hmac", f"is only for generic senders; {name} has its own signature"
    if source.HasField("mapping"):
        if provider in _MAPPED:
            yield from _mapping_problems(source.mapping)
        else:
            yield "source.mapping", f"is not for {name}, whose payloads have a known form"
    if needs_account and provider == provider_pb2.PROVIDER_CALLRAIL and not source.provider_account:
        yield (
            "source.provider_account",
            "is required to fetch recordings: the account's id, the number behind /a/ in the URL of CallRail's pages;"
            " GET https://api.callrail.com/v3/a.json lists it too",
        )
    if source.secret_form and provider not in _MAPPED:
        yield "source.secret_form", f"is not for {name}, which signs with the secret's text"
    names = [named.name for named in source.named_secrets]
    if len(set(names)) < len(names):
        yield "source.named_secrets", "must not name two secrets the same"
    if any(ord(c) <= ord(" ") for c in source.provider_account):
        yield "source.provider_account", "must not contain spaces or control characters"
    if not source.fetch_credential.strip().isprintable():
        yield "source.fetch_credential", "must not contain line ends or other control characters"
    if source.api_base_url and not _is_base_url(source.api_base_url):
        yield "source.api_base_url", "must be https://host or http://host with at most a port and a path"
    region = region_of(source.language)
    if region and region not in SUPPORTED_REGIONS:
        yield "source.language", f"{region} is not a region with telephone numbers; a tag such as en-US or en"


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # either may raise
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    return (
        plain and bool(host) and parts.username is None and not (parts.query or parts.fragment or "#" in url)
    )


def _hmac_problems(hmac: source_pb2.HmacOptions) -> Iterator[Problem]:
    for name in ("header", "timestamp_header"):
        header = getattr(hmac, name)
        if header.lower() in _NO_SIGNATURES:
            yield f"source.hmac.{name}", f"{header} holds no signature and no time"
    if hmac.header and hmac.timestamp_header.lower() == hmac.header.lower():
        yield (
            "source.hmac.timestamp_header",
            "must be another header than the signature's; see timestamp_part",
        )
    if hmac.HasField("tolerance") and hmac.tolerance.seconds < _LEAST_TOLERANCE_SECONDS:
        yield "source.hmac.tolerance", f"must be at least {_LEAST_TOLERANCE_SECONDS} s"
    if hmac.dedup_path and not _is_path(hmac.dedup_path):
        yield "source.hmac.dedup_path", _no_path(hmac.dedup_path)
    if hmac.timestamp_header and hmac.timestamp_part:
        yield "source.hmac.timestamp_part", "replaces timestamp_header; set only one of them"
    timed = bool(hmac.timestamp_header or hmac.timestamp_part)
    unknown = set(_PLACEHOLDER.findall(hmac.signed_content)) - {"{timestamp}", "{body}"}
    if unknown:
        wrong = ", ".join(sorted(unknown))
        yield "source.hmac.signed_content", f"{wrong} is not a placeholder; allowed: {{timestamp}}, {{body}}"
    if hmac.signed_content and hmac.signed_content.count("{body}") != 1:
        yield "source.hmac.signed_content", "must hold {body} once"
    if hmac.signed_content and hmac.signed_content.count("{timestamp}") != timed:
        yield (
            "source.hmac.signed_content",
            "must hold {timestamp} once where a header tells the time, and else not: a time that is not signed"
            " proves nothing",
        )


def _mapping_problems(mapping: source_pb2.PayloadMapping) -> Iterator[Problem]:
    if mapping.kind == source_pb2.PAYLOAD_KIND_CALL and not mapping.recording_url:
        yield "source.mapping.recording_url", "is required for events about calls"
    if mapping.kind == source_pb2.PAYLOAD_KIND_TEXT and not mapping.text:
        yield "source.mapping.text", "is required for events about texts"
    for field, path in mapping.ListFields():
        if isinstance(path, str) and not _is_path(path):
            yield f"source.mapping.{field.name}", _no_path(path)


def _is_path(path: str) -> bool:
    return all(path.split(".")) and path.isprintable() and path == path.strip()


def _no_path(path: str) -> str:
    return f"{path[:100]!r} is not a dotted path such as data.call.id"
