"""Generic HMAC: header, hash, encoding, prefix, time and what is signed as the source configures them."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from trunkline.tenant.v1 import source_pb2

from trunkline_gateway.providers import mapped
from trunkline_gateway.providers.base import Delivery, Identity, Rejected, Source
from trunkline_gateway.providers.bodies import JsonBody
from trunkline_gateway.providers.signing import (
    PARTS_MOST,
    base64_hmac,
    formed_key,
    hmac_digest,
    signature_bytes,
    unix_time,
    usable,
)

_DEFAULT_TOLERANCE_SECONDS = 300.0
_PLANS_MOST = 16_384
_BETWEEN = bytes.maketrans(b",;", b"  ")
_HASHES = {
    source_pb2.HASH_ALGORITHM_UNSPECIFIED: "sha256",
    source_pb2.HASH_ALGORITHM_SHA1: "sha1",
    source_pb2.HASH_ALGORITHM_SHA256: "sha256",
    source_pb2.HASH_ALGORITHM_SHA512: "sha512",
}
_PLACES = re.compile(r"(\{timestamp\}|\{body\})")


@dataclass(frozen=True, slots=True)
class _Plan:
    """HmacOptions as the hot path reads them."""

    options: source_pb2.HmacOptions  # holds the message alive, so that its id() stays its own
    header: str
    header_key: str
    hash: str
    base64: bool
    prefix: bytes
    timestamp_header: str
    timestamp_key: str
    time_prefix: bytes  # where the time stands in the signature's header
    content: tuple[str, ...]  # text and places, in their order
    tolerance_seconds: float


class GenericHmac(mapped.Mapped):
    """The rules that a source's HmacOptions state."""

    resends = False
    form_bytes = 0
    identity_headers: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._plans: dict[int, _Plan] = {}

    def signature_headers(self, source: Source) -> tuple[str, ...]:
        """See `Adapter.signature_headers`; as the source names them."""
        named = (source.hmac.header, source.hmac.timestamp_header) if source.hmac is not None else ()
        return tuple(name.lower() for name in named if name)

    def verify(self, source: Source, delivery: Delivery) -> None:
        """See `Adapter.verify`."""
        plan = self._plan(source)
        given = signature_bytes(delivery.headers.get(plan.header_key), plan.header)
        signatures, stamp = _read(plan, given)
        if not signatures:
            raise Rejected(f"the header {plan.header} lacks the configured prefix")
        message = _message(plan, stamp, delivery)
        for secret in usable(source.secrets, delivery.received):
            key = formed_key(secret, source.secret_form)
            if plan.base64:
                expected = base64_hmac(key, message, plan.hash)
            else:
                expected = hmac_digest(key, message, plan.hash).hex().encode("ascii")
            for signature in signatures:
                if hmac.compare_digest(expected, signature):
                    return
        raise Rejected(f"the header {plan.header} does not fit the body")

    def identify(self, source: Source, event_type: str, delivery: Delivery) -> Identity:
        """See `Adapter.identify`. Any event type goes: what it means is the source's mapping."""
        path = source.hmac.dedup_path if source.hmac is not None else ""
        body = JsonBody(delivery.body)
        dedup = mapped.required_at(body, path) if path else hashlib.sha256(delivery.body).hexdigest()
        return mapped.identity(source, body, dedup)

    def _plan(self, source: Source) -> _Plan:
        options = source.hmac
        if options is None or not options.header:
            raise Rejected("the source does not configure its sender's signature (hmac.header)")
        plan = self._plans.get(id(options))
        if plan is None:
            if len(self._plans) >= _PLANS_MOST:  # sources were changed that often: start over
                self._plans.clear()
            plan = self._plans[id(options)] = _prepare(options)
        return plan


def _read(plan: _Plan, given: bytes) -> tuple[list[bytes], str | None]:
    """Return the signatures of the header, and the time where that stands in it too."""
    found, stamp = [], None
    whole = given[len(plan.prefix) :] if given.startswith(plan.prefix) else None
    if whole is not None:  # a prefix may hold a space, as `HMAC-SHA256 ` does
        given = whole
    for place, part in enumerate(given.translate(_BETWEEN).split(maxsplit=PARTS_MOST)[:PARTS_MOST]):
        if plan.time_prefix and part.startswith(plan.time_prefix):
            stamp = part[len(plan.time_prefix) :].decode("ascii")
        elif part.startswith(plan.prefix):
            found.append(part[len(plan.prefix) :])
        elif whole is not None and place == 0:
            found.append(part)
    return (found if plan.base64 else [signature.lower() for signature in found]), stamp


def _message(plan: _Plan, stamp: str | None, delivery: Delivery) -> bytes:
    """Return what is signed. Raises `Rejected` for a time that is missing or far off."""
    sent, name = "", ""
    if plan.time_prefix:
        name = f"time in the header {plan.header}"
    elif plan.timestamp_key:
        stamp, name = delivery.headers.get(plan.timestamp_key), f"header {plan.timestamp_header}"
    if name:
        sent = unix_time(stamp, name, delivery.received, plan.tolerance_seconds)
    if len(plan.content) == 1:
        return delivery.body
    places = {"{timestamp}": sent.encode("ascii"), "{body}": delivery.body}
    return b"".join(places[part] if part in places else part.encode("utf-8") for part in plan.content)


def _prepare(options: source_pb2.HmacOptions) -> _Plan:
    tolerance = options.tolerance.ToTimedelta().total_seconds() if options.HasField("tolerance") else 0.0
    timed = bool(options.timestamp_header or options.timestamp_part)
    content = options.signed_content or ("{timestamp}.{body}" if timed else "{body}")
    return _Plan(
        options=options,
        header=options.header,
        header_key=options.header.lower(),
        hash=_HASHES[options.hash],
        base64=options.encoding == source_pb2.SIGNATURE_ENCODING_BASE64,
        prefix=options.prefix.encode("utf-8"),
        timestamp_header=options.timestamp_header,
        timestamp_key=options.timestamp_header.lower(),
        time_prefix=f"{options.timestamp_part}=".encode() if options.timestamp_part else b"",
        content=tuple(part for part in _PLACES.split(content) if part),
        tolerance_seconds=tolerance or _DEFAULT_TOLERANCE_SECONDS,
    )
