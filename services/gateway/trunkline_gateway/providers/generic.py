"""Generic HMAC: header, hash, encoding, prefix and timestamp as the source configures them."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from trunkline.tenant.v1 import source_pb2

from trunkline_gateway.providers import mapped
from trunkline_gateway.providers.base import Delivery, Facts, Identity, Rejected, Source
from trunkline_gateway.providers.payload import parse_json
from trunkline_gateway.providers.signing import (
    base64_hmac,
    hmac_digest,
    signature_bytes,
    text_key,
    unix_time,
    usable,
)

_DEFAULT_TOLERANCE_SECONDS = 300.0
_PLANS_MOST = 16_384
_HASHES = {
    source_pb2.HASH_ALGORITHM_UNSPECIFIED: "sha256",
    source_pb2.HASH_ALGORITHM_SHA1: "sha1",
    source_pb2.HASH_ALGORITHM_SHA256: "sha256",
    source_pb2.HASH_ALGORITHM_SHA512: "sha512",
}


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
    tolerance_seconds: float


class GenericHmac:
    """The rules that a source's HmacOptions state."""

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
        if not given.startswith(plan.prefix):
            raise Rejected(f"the header {plan.header} lacks the configured prefix")
        given = given[len(plan.prefix) :]
        message = delivery.body
        if plan.timestamp_key:
            value = delivery.headers.get(plan.timestamp_key)
            sent = unix_time(value, plan.timestamp_header, delivery.received, plan.tolerance_seconds)
            message = sent.encode("ascii") + b"." + message
        for secret in usable(source.secrets, delivery.received):
            key = text_key(secret)
            if plan.base64:
                expected = base64_hmac(key, message, plan.hash)
            else:
                expected = hmac_digest(key, message, plan.hash).hex().encode("ascii")
            if hmac.compare_digest(expected, given):
                return
        raise Rejected(f"the header {plan.header} does not fit the body")

    def identify(self, source: Source, event_type: str, delivery: Delivery) -> Identity:
        """See `Adapter.identify`. Any event type goes: what it means is the source's mapping."""
        path = source.hmac.dedup_path if source.hmac is not None else ""
        if path:
            dedup = mapped.required_at(parse_json(delivery.body), path)
        else:
            dedup = hashlib.sha256(delivery.body).hexdigest()
        return Identity(
            dedup_fields=(dedup,),
            call_aliases=mapped.call_aliases(source, delivery.body),
            event_time=mapped.event_time(source, delivery.body),
        )

    def normalise(self, source: Source, event_type: str, body: bytes, content_type: str) -> Facts:
        """See `Adapter.normalise`."""
        return mapped.normalise(source, body)

    def _plan(self, source: Source) -> _Plan:
        options = source.hmac
        if options is None or not options.header:
            raise Rejected("the source does not say how its sender signs (hmac.header)")
        plan = self._plans.get(id(options))
        if plan is None:
            if len(self._plans) >= _PLANS_MOST:  # sources were changed that often: start over
                self._plans.clear()
            plan = self._plans[id(options)] = _prepare(options)
        return plan


def _prepare(options: source_pb2.HmacOptions) -> _Plan:
    tolerance = options.tolerance.ToTimedelta().total_seconds() if options.HasField("tolerance") else 0.0
    return _Plan(
        options=options,
        header=options.header,
        header_key=options.header.lower(),
        hash=_HASHES[options.hash],
        base64=options.encoding == source_pb2.SIGNATURE_ENCODING_BASE64,
        prefix=options.prefix.encode("utf-8"),
        timestamp_header=options.timestamp_header,
        timestamp_key=options.timestamp_header.lower(),
        tolerance_seconds=tolerance or _DEFAULT_TOLERANCE_SECONDS,
    )
