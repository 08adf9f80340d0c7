"""CallRail: base64 HMAC-SHA1 over the raw body; ten event types, each with a URL of its own."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote

from trunkline_gateway.providers.base import (
    ANALYSE,
    FETCH,
    RECORD,
    TRANSCRIBE,
    Delivery,
    Facts,
    Identity,
    Malformed,
    MediaRequest,
    RecordingRequest,
    Rejected,
    Source,
    link_key,
)
from trunkline_gateway.providers.call_facts import CallFacts
from trunkline_gateway.providers.callrail import facts, forms
from trunkline_gateway.providers.payload import Payload, parse
from trunkline_gateway.providers.scalars import CONTENT_MOST
from trunkline_gateway.providers.signing import base64_hmac, signature_bytes, text_key, usable

API = "https://api.callrail.com"
_ALL = (FETCH, TRANSCRIBE, ANALYSE, RECORD)

# Rank by event type: of two events with the same time the higher rank's value stands, and all of a call's
# events carry the call's start as their `timestamp`.
RANKS = {
    "pre_call": 10,
    "call_routing_complete": 20,
    "post_call": 30,
    "outbound_post_call": 30,
    "text_message_received": 30,
    "text_message_sent": 30,
    "form_submission": 30,
    "convert_assist_complete": 35,
    "call_modified": 40,
    "outbound_call_modified": 40,
}
_MODIFIED = frozenset({"call_modified", "outbound_call_modified"})
_WITH_RECORDING = frozenset({"post_call", "outbound_post_call"}) | _MODIFIED
_TEXTS = frozenset({"text_message_received", "text_message_sent"})
_MEDIA_MOST = 10
_RECORDING_CHANGES = frozenset({"recording", "recording_duration", "recording_url", "recording_player"})


class CallRail:
    """CallRail's rules."""

    resends = False
    form_bytes = 0
    identity_headers: tuple[str, ...] = ()

    def signature_headers(self, source: Source) -> tuple[str, ...]:
        """See `Adapter.signature_headers`."""
        return ("signature",)

    def verify(self, source: Source, delivery: Delivery) -> None:
        """See `Adapter.verify`. The body's timestamp is the call's, not the sending's: no replay window."""
        given = signature_bytes(delivery.headers.get("signature"), "Signature")
        for secret in usable(source.secrets, delivery.received):
            if hmac.compare_digest(base64_hmac(text_key(secret), delivery.body, "sha1"), given):
                return
        raise Rejected("the header Signature does not fit the body")

    def identify(self, source: Source, event_type: str, delivery: Delivery) -> Identity:
        """See `Adapter.identify`."""
        _check(event_type)
        payload = parse(delivery.body, delivery.headers.get("content-type", ""))
        aliases = _aliases(event_type, payload)
        dedup: tuple[str, ...] = (payload.identifier("resource_id", "id") or aliases[0],)
        # A call is modified many times: only the same words are the same event, and not after other ones.
        content = hashlib.sha256(delivery.body).hexdigest() if event_type in _MODIFIED else ""
        if content:
            dedup += (content,)
        return Identity(
            dedup_fields=dedup, call_aliases=aliases, event_time=_event_time(payload), revises=content
        )

    def normalise(self, source: Source, event_type: str, body: bytes, content_type: str) -> Facts:
        """See `Adapter.normalise`."""
        _check(event_type)
        payload = parse(body, content_type)
        aliases = _aliases(event_type, payload)
        fetch = event_type in _WITH_RECORDING and _has_new_recording(event_type, payload)
        form = forms.read(payload, "form_data") if event_type == "form_submission" else None
        statement = facts.state(source, event_type, payload, aliases[0], form, states_recording=fetch)
        stages: tuple[str, ...] = (RECORD,)
        text, recording, problem = "", None, ""
        if event_type in _TEXTS:
            text = payload.text("content", most=CONTENT_MOST) or ""
            stages = (ANALYSE, RECORD) if text else (RECORD,)  # pictures alone say nothing to analyse
        elif form is not None:
            text = form.text
            stages = (ANALYSE, RECORD) if text else (RECORD,)
        elif fetch:
            stages = _ALL
            recording, problem = _recording(source, payload)
        return Facts(
            call=statement.call,
            stated=statement.stated,
            aliases=aliases,
            rank=RANKS[event_type],
            stages=stages,
            recording=recording,
            recording_problem=problem,
            text=text,
            event_time=_event_time(payload),
            media=_media(payload) if event_type in _TEXTS else (),
            warnings=payload.warnings,
        )

    def looked_up(self, source: Source, body: bytes) -> CallFacts:
        """See `Adapter.looked_up`: CallRail's events say all that its API does."""
        return CallFacts(source, "")


def _check(event_type: str) -> None:
    if event_type not in RANKS:
        raise Malformed(f"the event type in the URL must be one of {', '.join(RANKS)}")


def _aliases(event_type: str, payload: Payload) -> tuple[str, ...]:
    """Return the ids of the conversation, the lasting one first.

    Texts and forms have numbers of their own, so a numeric id is told apart from a call's.
    """
    prefix = "sms-" if event_type in _TEXTS else "form-" if event_type == "form_submission" else ""
    names: tuple[str, str] = ("resource_id", "id")
    if event_type == "convert_assist_complete" and (payload.text("call_resource_id", "call_id")):
        names = ("call_resource_id", "call_id")
    lasting, numeric = payload.identifier(names[0]), payload.identifier(names[1])
    aliases = [lasting] if lasting else []
    if numeric and numeric != lasting:
        aliases.append(prefix + numeric if numeric.isdigit() else numeric)
    if not aliases:
        raise Malformed(f"one of {names[0]} and {names[1]} is required")
    return tuple(aliases)


def _event_time(payload: Payload) -> datetime | None:
    """Return the event's time; the start stands in for a missing timestamp, being the same in all events."""
    return payload.time("timestamp", "start_time", "submitted_at", "created_at")


def _has_new_recording(event_type: str, payload: Payload) -> bool:
    """Say whether there is a recording to fetch: of a modified call only when that is what changed."""
    if event_type in _MODIFIED and not _RECORDING_CHANGES.intersection(payload.texts("changes") or ()):
        return False
    seconds = payload.duration("recording_duration")
    return payload.text("recording") is not None or (seconds is not None and seconds.ToMilliseconds() > 0)


def _media(payload: Payload) -> tuple[MediaRequest, ...]:
    """Return the files of a message: links that open themselves for a while, so no credential goes there."""
    return tuple(
        MediaRequest(link_key(url), url)
        for url in payload.cut(payload.urls("media_urls"), "media_urls", _MEDIA_MOST)
        if url.startswith(("https://", "http://"))
    )


def _recording(source: Source, payload: Payload) -> tuple[RecordingRequest | None, str]:
    """Return how to ask for the recording, or why that cannot be done.

    The webhook's own link leads through a browser's login, so the API is asked by the call's id. The key
    carries the recorded seconds: one that grew is another recording, one told of twice is not.
    """
    call_id = payload.identifier("resource_id", "id")
    if call_id is None:
        return None, "the payload has neither resource_id nor id"
    if not source.provider_account:
        return None, "the source has no provider_account, which CallRail's API needs to give a recording"
    seconds = payload.duration("recording_duration")
    base = source.api_base_url.rstrip("/") or API
    url = f"{base}/v3/a/{quote(source.provider_account, safe='')}/calls/{call_id}/recording.json"
    headers = {"Authorization": f'Token token="{source.fetch_credential}"'} if source.fetch_credential else {}
    key = f"{call_id}:{seconds.ToMilliseconds()}" if seconds is not None else call_id
    return RecordingRequest(key=key, url=url, headers=headers, url_field="url"), ""
