"""Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, several signatures for rotation, five minutes."""

from __future__ import annotations

import hmac

from trunkline_gateway.providers import mapped
from trunkline_gateway.providers.base import Delivery, Facts, Identity, Malformed, Rejected, Source
from trunkline_gateway.providers.payload import clean
from trunkline_gateway.providers.signing import (
    base64_hmac,
    signature_bytes,
    standard_key,
    unix_time,
    usable,
)

TOLERANCE_SECONDS = 300


class StandardWebhooks:
    """The rules of standardwebhooks.com."""

    identity_headers: tuple[str, ...] = ("webhook-id",)

    def signature_headers(self, source: Source) -> tuple[str, ...]:
        """See `Adapter.signature_headers`."""
        return ("webhook-signature", "webhook-timestamp", "webhook-id")

    def verify(self, source: Source, delivery: Delivery) -> None:
        """See `Adapter.verify`."""
        headers = delivery.headers
        given = signature_bytes(headers.get("webhook-signature"), "webhook-signature")
        stamp = headers.get("webhook-timestamp")
        sent = unix_time(stamp, "webhook-timestamp", delivery.received, TOLERANCE_SECONDS)
        message_id = headers.get("webhook-id")
        if not message_id:
            raise Rejected("the header webhook-id is missing")
        message = f"{message_id}.{sent}.".encode("latin-1", "replace") + delivery.body
        signatures = [part[3:] for part in given.split(b" ") if part.startswith(b"v1,")]
        for secret in usable(source.secrets, delivery.received):
            expected = base64_hmac(standard_key(secret), message, "sha256")
            for signature in signatures:
                if hmac.compare_digest(expected, signature):
                    return
        raise Rejected("no v1 signature of the header webhook-signature fits id, timestamp and body")

    def identify(self, source: Source, event_type: str, delivery: Delivery) -> Identity:
        """See `Adapter.identify`. Any event type goes: what it means is the source's mapping."""
        message_id = clean(delivery.headers.get("webhook-id", ""), 257)
        if not message_id or len(message_id) > 256:
            raise Malformed("the header webhook-id must be 1 to 256 characters")
        return Identity(
            dedup_fields=(message_id,),
            call_aliases=mapped.call_aliases(source, delivery.body),
            event_time=mapped.event_time(source, delivery.body),
        )

    def normalise(self, source: Source, event_type: str, body: bytes, content_type: str) -> Facts:
        """See `Adapter.normalise`."""
        return mapped.normalise(source, body)
