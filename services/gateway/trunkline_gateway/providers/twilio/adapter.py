"""Twilio: base64 HMAC-SHA1 over the public URL and the sorted form fields; what each kind of callback is.

One call tells of itself in several callbacks: its status (who called whom), its recordings (which name nobody), the
end of a `<Record>` or `<Dial>`. Which one it is shows in its fields, so an event type says only how it ranks.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from trunkline_gateway.providers.base import (
    Delivery,
    Facts,
    Identity,
    Malformed,
    Rejected,
    Source,
    TooLarge,
)
from trunkline_gateway.providers.bodies import is_form, parse_form, parse_json
from trunkline_gateway.providers.call_facts import CallFacts
from trunkline_gateway.providers.payload import Payload, parse
from trunkline_gateway.providers.public_urls import elsewhere, origin_of, with_and_without_port
from trunkline_gateway.providers.signing import base64_hmac, signature_bytes, text_key, usable
from trunkline_gateway.providers.twilio import facts

RECORDING_STATUS = "recording_status"
EVENT_TYPES = (RECORDING_STATUS, "record_action", "call_status", "dial_action", "message", "message_status")
# A text of 1,600 characters, ten links and all parameters that Twilio documents are below 20 kB.
_FORM_BYTES = 64 << 10
_TOO_LARGE = f"a form must be at most {_FORM_BYTES} bytes"
_BODY_HASH = re.compile(r"[?&]bodySHA256=([0-9A-Fa-f]{64})(?![^&#])", re.ASCII)


class Twilio:
    """Twilio's rules."""

    resends = False
    form_bytes = _FORM_BYTES
    identity_headers: tuple[str, ...] = ()

    def signature_headers(self, source: Source) -> tuple[str, ...]:
        """See `Adapter.signature_headers`."""
        return ("x-twilio-signature",)

    def verify(self, source: Source, delivery: Delivery) -> None:
        """See `Adapter.verify`. A body that is no form is covered by `bodySHA256` of the signed URL."""
        given = signature_bytes(delivery.headers.get("x-twilio-signature"), "X-Twilio-Signature")
        if is_form(delivery.headers.get("content-type", ""), delivery.body):
            if len(delivery.body) > _FORM_BYTES:
                raise TooLarge(_TOO_LARGE)
            signed = _signed_fields(delivery.body)
        else:
            _check_body_hash(delivery)
            signed = ""
        secrets = tuple(usable(source.secrets, delivery.received))
        if _fits(delivery.url, signed, secrets, given):
            return
        reason = "the header X-Twilio-Signature does not fit the body and the URL below"
        reason = f"{reason} {origin_of(delivery.url)}"
        for url in elsewhere(delivery.url, delivery.headers):
            if _fits(url, signed, secrets, given):
                reason += (
                    f"; it fits below {origin_of(url)}: TRUNKLINE_GATEWAY_PUBLIC_URL must begin like that"
                )
                break
        raise Rejected(reason)

    def identify(self, source: Source, event_type: str, delivery: Delivery) -> Identity:
        """See `Adapter.identify`."""
        payload = _payload(event_type, delivery.body, delivery.headers.get("content-type", ""))
        subject = facts.subject_of(payload)
        return Identity(subject.dedup_fields, subject.aliases, facts.event_time(payload))

    def normalise(self, source: Source, event_type: str, body: bytes, content_type: str) -> Facts:
        """See `Adapter.normalise`."""
        return facts.facts_of(source, _payload(event_type, body, content_type))

    def looked_up(self, source: Source, body: bytes) -> CallFacts:
        """See `Adapter.looked_up`."""
        return facts.looked_up(source, Payload(parse_json(body)))


def _fits(url: str, signed: str, secrets: tuple[str, ...], given: bytes) -> bool:
    for written in with_and_without_port(url):
        message = (written + signed).encode("utf-8", "surrogateescape")
        for secret in secrets:
            if hmac.compare_digest(base64_hmac(text_key(secret), message, "sha1"), given):
                return True
    return False


def _signed_fields(body: bytes) -> str:
    """Return every field's name and value, sorted; of a repeated name each different value once."""
    try:
        fields = parse_form(body, "strict")
    except Malformed as malformed:
        raise Rejected(str(malformed)) from None
    return "".join(name + value for name, value in sorted(set(fields)))


def _check_body_hash(delivery: Delivery) -> None:
    stated = _BODY_HASH.search(delivery.url)  # not parse_qs: a stranger's query of 30 kB takes it 10 ms
    if stated is None:
        raise Rejected("the URL of a body that is no form must carry bodySHA256")
    if not hmac.compare_digest(hashlib.sha256(delivery.body).hexdigest(), stated[1].lower()):
        raise Rejected("bodySHA256 of the URL does not fit the body")


def _payload(event_type: str, body: bytes, content_type: str) -> Payload:
    if event_type not in EVENT_TYPES:
        raise Malformed(f"the event type in the URL must be one of {', '.join(EVENT_TYPES)}")
    if len(body) > _FORM_BYTES and is_form(content_type, body):
        raise Malformed(_TOO_LARGE)
    return parse(body, content_type)
