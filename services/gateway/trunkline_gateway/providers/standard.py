"""Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, several signatures for rotation, five minutes."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from trunkline.tenant.v1 import source_pb2

from trunkline_gateway.providers import mapped
from trunkline_gateway.providers.base import Delivery, Identity, Malformed, Rejected, Source
from trunkline_gateway.providers.bodies import JsonBody
from trunkline_gateway.providers.scalars import clean
from trunkline_gateway.providers.signing import (
    PARTS_MOST,
    base64_hmac,
    formed_key,
    signature_bytes,
    unix_time,
    usable,
)

TOLERANCE_SECONDS = 300


class StandardWebhooks(mapped.Mapped):
    """The rules of standardwebhooks.com, and the same under the names that Svix gives the headers."""

    resends = True
    form_bytes = 0
    identity_headers: tuple[str, ...] = ("webhook-id", "svix-id")

    def signature_headers(self, source: Source) -> tuple[str, ...]:
        """See `Adapter.signature_headers`."""
        return tuple(
            f"{family}-{part}" for family in ("webhook", "svix") for part in ("signature", "timestamp", "id")
        )

    def verify(self, source: Source, delivery: Delivery) -> None:
        """See `Adapter.verify`."""
        headers = delivery.headers
        family = _family(headers)
        given = signature_bytes(headers.get(f"{family}-signature"), f"{family}-signature")
        stamp = headers.get(f"{family}-timestamp")
        sent = unix_time(stamp, f"header {family}-timestamp", delivery.received, TOLERANCE_SECONDS)
        message_id = headers.get(f"{family}-id")
        if not message_id:
            raise Rejected(f"the header {family}-id is missing")
        message = f"{message_id}.{sent}.".encode("latin-1", "replace") + delivery.body
        signatures = [
            part[3:] for part in given.split(b" ", PARTS_MOST)[:PARTS_MOST] if part.startswith(b"v1,")
        ]
        form = source.secret_form or source_pb2.SECRET_FORM_BASE64
        for secret in usable(source.secrets, delivery.received):
            expected = base64_hmac(formed_key(secret, form), message, "sha256")
            for signature in signatures:
                if hmac.compare_digest(expected, signature):
                    return
        raise Rejected(f"no v1 signature of the header {family}-signature fits id, timestamp and body")

    def identify(self, source: Source, event_type: str, delivery: Delivery) -> Identity:
        """See `Adapter.identify`. Any event type goes: what it means is the source's mapping."""
        name = f"{_family(delivery.headers)}-id"
        message_id = clean(delivery.headers.get(name, ""), 257)
        if not message_id or len(message_id) > 256:
            raise Malformed(f"the header {name} must be 1 to 256 characters")
        return mapped.identity(source, JsonBody(delivery.body), message_id)


def _family(headers: Mapping[str, str]) -> str:
    """Return what the names of the headers begin with.

    The id's header alone decides, here and there: what was verified is what the event is known by.
    """
    return "svix" if "webhook-id" not in headers and "svix-id" in headers else "webhook"
