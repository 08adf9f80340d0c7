"""Signed deliveries of each provider, made with hmac alone, not with the code under test."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway.providers.base import Delivery, Secret, Source

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = "072e77e426f92738a72fe23c4d1953b4"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://hooks.example.com/hooks/s-1/x"
FORM = "application/x-www-form-urlencoded"

CALLRAIL = provider_pb2.PROVIDER_CALLRAIL
TWILIO = provider_pb2.PROVIDER_TWILIO
STANDARD = provider_pb2.PROVIDER_STANDARD_WEBHOOKS
GENERIC = provider_pb2.PROVIDER_GENERIC_HMAC


def source(provider: Any = CALLRAIL, *secrets: Secret | str, **options: Any) -> Source:
    made = tuple(s if isinstance(s, Secret) else Secret(s) for s in secrets or (KEY,))
    return Source(source_id="s-1", tenant_id="acme", provider=provider, secrets=made, **options)


def delivery(body: bytes, url: str = URL, received: datetime = NOW, **headers: str) -> Delivery:
    return Delivery(body, {name.replace("_", "-"): value for name, value in headers.items()}, url, received)


def b64(key: bytes, message: bytes, algorithm: str) -> str:
    return base64.b64encode(hmac.new(key, message, algorithm).digest()).decode()


def callrail(
    body: bytes | dict[str, Any], key: str = KEY, content_type: str = "application/json"
) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return delivery(raw, signature=b64(key.encode(), raw, "sha1"), content_type=content_type)


def twilio(params: dict[str, str], key: str = KEY, url: str = URL) -> Delivery:
    text = url + "".join(name + params[name] for name in sorted(params))
    raw = urlencode(params).encode()
    signature = b64(key.encode(), text.encode(), "sha1")
    return delivery(raw, url, x_twilio_signature=signature, content_type=FORM)


def standard(body: bytes, secret: str = WHSEC, sent: datetime = NOW, message_id: str = "msg_1") -> Delivery:
    stamp = str(int(sent.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = "v1," + b64(key, f"{message_id}.{stamp}.".encode() + body, "sha256")
    headers = {"webhook_id": message_id, "webhook_timestamp": stamp, "webhook_signature": signature}
    return delivery(body, content_type="application/json", **headers)


def generic_options(**options: Any) -> source_pb2.HmacOptions:
    return source_pb2.HmacOptions(**{"header": "X-Signature", **options})


def generic(body: bytes, key: str = KEY) -> Delivery:
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return delivery(body, x_signature=signature, content_type="application/json")


RECORDING = {
    "AccountSid": "AC0123456789abcdef",
    "CallSid": "CA0123456789abcdef",
    "RecordingSid": "RE0123456789abcdef",
    "RecordingUrl": "https://api.twilio.com/2010-04-01/Accounts/AC0123456789abcdef/Recordings/RE0123456789abcdef",
    "RecordingStatus": "completed",
    "RecordingDuration": "31",
    "RecordingChannels": "2",
    "RecordingStartTime": "Fri, 20 Nov 2026 11:58:00 +0000",
    "RecordingSource": "DialVerb",
}
