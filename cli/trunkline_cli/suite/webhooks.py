"""Webhooks as the providers really send them, signed with the source's secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.parse
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trunkline_cli.suite.seed import SeededSource


@dataclass(frozen=True)
class Webhook:
    """One request to be posted."""

    url: str
    body: bytes
    headers: dict[str, str]


def callrail(source: SeededSource, event_type: str, payload: dict[str, Any]) -> Webhook:
    """A CallRail webhook: JSON, base64 HMAC-SHA1 of the raw body in the header Signature."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    signature = base64.b64encode(hmac.digest(source.secret.encode(), body, hashlib.sha1)).decode()
    return Webhook(
        f"{source.url}/{event_type}", body, {"content-type": "application/json", "signature": signature}
    )


def twilio(source: SeededSource, event_type: str, form: dict[str, str]) -> Webhook:
    """A Twilio callback: form-encoded, base64 HMAC-SHA1 of the URL and the sorted fields."""
    url = f"{source.url}/{event_type}"
    signed = url + "".join(name + form[name] for name in sorted(form))
    signature = base64.b64encode(hmac.digest(source.secret.encode(), signed.encode(), hashlib.sha1)).decode()
    headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature}
    return Webhook(url, urllib.parse.urlencode(form).encode(), headers)


def callrail_call(
    source: SeededSource, call_id: str, *, recorded: bool = True, number: str = "+15555550100", **fields: Any
) -> dict[str, Any]:
    """The payload of a CallRail call event; `fields` replace or add. Its recording is told to be a second long."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    payload: dict[str, Any] = {
        "id": call_id,
        "resource_id": f"CAL{call_id}",
        "company_name": "Demo",
        "company_time_zone": "America/New_York",
        "customer_phone_number": number,
        "tracking_phone_number": "+15555550199",
        "business_phone_number": "+15555550198",
        "direction": "inbound",
        "answered": True,
        "voicemail": False,
        "call_type": "inbound",
        "duration": "30",
        "start_time": now,
        "timestamp": now,
        "source_name": "Google Ads",
        "medium": "cpc",
        "tags": [],
        "note": "",
        "value": "",
    }
    if recorded:
        payload["recording_duration"] = 1
        payload["recording"] = (
            f"https://app.callrail.com/calls/{call_id}/recording/redirect?access_key=0123456789abcdef"
        )
    return {**payload, **fields}


def twilio_recording(
    source: SeededSource,
    call_sid: str,
    recording_sid: str,
    recordings_url: str,
    seconds: float,
    channels: int,
) -> dict[str, str]:
    """The form of a Twilio recording status callback of a completed recording."""
    return {
        "AccountSid": source.account,
        "CallSid": call_sid,
        "RecordingSid": recording_sid,
        "RecordingUrl": f"{recordings_url}/2010-04-01/Accounts/{source.account}/Recordings/{recording_sid}",
        "RecordingStatus": "completed",
        "RecordingDuration": str(round(seconds)),
        "RecordingChannels": str(channels),
        "RecordingStartTime": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000"),
        "RecordingSource": "DialVerb",
        "ErrorCode": "0",
    }
