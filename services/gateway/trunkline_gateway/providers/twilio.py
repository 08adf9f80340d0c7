"""Twilio: base64 HMAC-SHA1 over the public URL and the sorted form fields; recording status callbacks."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from urllib.parse import parse_qs, urlsplit, urlunsplit

from trunkline.common.v1 import provider_pb2

from trunkline_gateway.providers.base import (
    ANALYSE,
    FETCH,
    RECORD,
    TRANSCRIBE,
    Delivery,
    Facts,
    Identity,
    Malformed,
    RecordingRequest,
    Rejected,
    Source,
)
from trunkline_gateway.providers.origins import at_base, has_host_of, same_origin
from trunkline_gateway.providers.payload import Payload, is_form, parse, parse_form
from trunkline_gateway.providers.signing import base64_hmac, signature_bytes, text_key, usable
from trunkline_gateway.providers.stating import Statement

RECORDING_STATUS = "recording_status"
_RANKS = {"in-progress": 10, "completed": 30, "absent": 30, "failed": 30}
_DIRECTIONS = {"inbound": provider_pb2.DIRECTION_INBOUND, "outbound": provider_pb2.DIRECTION_OUTBOUND}


class Twilio:
    """Twilio's rules."""

    identity_headers: tuple[str, ...] = ()

    def signature_headers(self, source: Source) -> tuple[str, ...]:
        """See `Adapter.signature_headers`."""
        return ("x-twilio-signature",)

    def verify(self, source: Source, delivery: Delivery) -> None:
        """See `Adapter.verify`. A body that is no form is covered by `bodySHA256` of the signed URL."""
        given = signature_bytes(delivery.headers.get("x-twilio-signature"), "X-Twilio-Signature")
        if is_form(delivery.headers.get("content-type", ""), delivery.body):
            signed = _signed_fields(delivery.body)
        else:
            _check_body_hash(delivery)
            signed = ""
        secrets = tuple(usable(source.secrets, delivery.received))
        for url in _urls(delivery.url):
            message = (url + signed).encode("utf-8", "surrogateescape")
            for secret in secrets:
                if hmac.compare_digest(base64_hmac(text_key(secret), message, "sha1"), given):
                    return
        raise Rejected("the header X-Twilio-Signature does not fit the public URL and the body")

    def identify(self, source: Source, event_type: str, delivery: Delivery) -> Identity:
        """See `Adapter.identify`."""
        payload = _payload(event_type, delivery.body, delivery.headers.get("content-type", ""))
        call_sid, recording_sid, status = _what(payload)
        return Identity((recording_sid, status), (call_sid,), _event_time(payload))

    def normalise(self, source: Source, event_type: str, body: bytes, content_type: str) -> Facts:
        """See `Adapter.normalise`."""
        payload = _payload(event_type, body, content_type)
        call_sid, recording_sid, status = _what(payload)
        recording, problem = None, ""
        if status == "completed":
            recording, problem = _recording(source, payload, recording_sid)
        statement = _state(source, payload, call_sid)
        return Facts(
            call=statement.call,
            stated=statement.stated,
            aliases=(call_sid,),
            rank=_RANKS[status],
            stages=(FETCH, TRANSCRIBE, ANALYSE, RECORD) if status == "completed" else (RECORD,),
            recording=recording,
            recording_pending=status == "in-progress",
            recording_problem=problem,
            event_time=_event_time(payload),
        )


def _signed_fields(body: bytes) -> str:
    """Return every field's name and value, sorted; of a repeated name each different value once."""
    try:
        fields = parse_form(body)
    except Malformed as malformed:
        raise Rejected(str(malformed)) from None
    return "".join(name + value for name, value in sorted(set(fields)))


def _check_body_hash(delivery: Delivery) -> None:
    stated = parse_qs(urlsplit(delivery.url).query).get("bodySHA256", [""])[0]
    if not stated.isascii() or not stated:
        raise Rejected("the URL of a body that is no form must carry bodySHA256")
    if not hmac.compare_digest(hashlib.sha256(delivery.body).hexdigest(), stated.lower()):
        raise Rejected("bodySHA256 of the URL does not fit the body")


def _urls(url: str) -> Iterable[str]:
    """Give the URL as configured, then with its port written or left out: Twilio's senders differ in that."""
    yield url
    parts = urlsplit(url)
    host = parts.netloc.rsplit("@", 1)[-1]
    bare = host.rsplit(":", 1)[0] if ":" in host else host
    other = bare if bare != host else f"{host}:{443 if parts.scheme == 'https' else 80}"
    yield urlunsplit(parts._replace(netloc=other))


def _payload(event_type: str, body: bytes, content_type: str) -> Payload:
    if event_type != RECORDING_STATUS:
        raise Malformed(f"the event type in the URL must be {RECORDING_STATUS}")
    return parse(body, content_type)


def _what(payload: Payload) -> tuple[str, str, str]:
    """Return the call's SID, the recording's SID and the recording's status."""
    call_sid, recording_sid = payload.identifier("CallSid"), payload.identifier("RecordingSid")
    if call_sid is None or recording_sid is None:
        raise Malformed("CallSid and RecordingSid are required")
    status = (payload.text("RecordingStatus") or "").lower()
    if status not in _RANKS:
        raise Malformed(f"RecordingStatus must be one of {', '.join(_RANKS)}")
    return call_sid, recording_sid, status


def _event_time(payload: Payload) -> datetime | None:
    """Return when the recording began: the same in all of its callbacks, whose rank decides between them."""
    return payload.time("RecordingStartTime")


def _state(source: Source, payload: Payload, call_sid: str) -> Statement:
    statement = Statement(source, call_sid, payload.identifier("AccountSid") or "")
    statement.put("kind", provider_pb2.CONVERSATION_KIND_CALL)
    direction = _DIRECTIONS.get((payload.text("Direction") or "").lower().partition("-")[0])
    statement.put("direction", direction)
    outbound = direction == provider_pb2.DIRECTION_OUTBOUND
    customer, business = ("To", "From") if outbound else ("From", "To")
    statement.put("caller_number", payload.text(customer, most=64))
    statement.put("tracking_number", payload.text(business, most=64))
    statement.put("caller_name", payload.text("CallerName", most=256))
    statement.put("start_time", payload.time("RecordingStartTime"))
    statement.put("duration", payload.duration("CallDuration"))
    if payload.text("RecordingDuration") != "-1":  # how Twilio says that it does not know
        statement.put("recording_duration", payload.duration("RecordingDuration"))
    return statement


def _recording(source: Source, payload: Payload, recording_sid: str) -> tuple[RecordingRequest | None, str]:
    """Return how to ask for the WAV, or why not. Only Twilio and the source's own base see the token."""
    url = payload.text("RecordingUrl", most=4096)
    if url is None:
        return None, "RecordingUrl is missing although RecordingStatus is completed"
    if not url.startswith(("https://", "http://")):
        raise Malformed("RecordingUrl must be an http or https URL")
    url = url.split("?", 1)[0].removesuffix(".wav").removesuffix(".mp3") + ".wav"
    if payload.text("RecordingChannels") == "2":
        url += "?RequestedChannels=2"
    provider = has_host_of(url, "twilio.com")
    if provider and source.api_base_url:
        url = at_base(url, source.api_base_url)
    headers = {}
    account = source.provider_account or payload.identifier("AccountSid") or ""
    token = source.fetch_credential or (source.secrets[0].value if source.secrets else "")
    trusted = same_origin(url, source.api_base_url) if source.api_base_url else provider
    if trusted and account and token:
        headers["Authorization"] = "Basic " + b64encode(f"{account}:{token}".encode()).decode("ascii")
    return RecordingRequest(key=recording_sid, url=url, headers=headers), ""
