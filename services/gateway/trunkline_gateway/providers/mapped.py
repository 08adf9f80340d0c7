"""Payloads that a source's PayloadMapping explains: shared by Standard Webhooks and generic senders."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import call_pb2, source_pb2

from trunkline_gateway.providers.base import (
    ANALYSE,
    FETCH,
    RECORD,
    TRANSCRIBE,
    Facts,
    Identity,
    Malformed,
    RecordingRequest,
    Source,
    link_key,
)
from trunkline_gateway.providers.bodies import JsonBody
from trunkline_gateway.providers.call_facts import CallFacts
from trunkline_gateway.providers.origins import same_origin
from trunkline_gateway.providers.payload import Payload
from trunkline_gateway.providers.scalars import CONTENT_MOST, as_text, is_rounded

_RANK = 30


def at_path(payload: dict[str, Any], path: str) -> Any:
    """Return what stands at a dotted path, or None; a number steps into a list."""
    value: Any = payload
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 6:
            index = int(step)
            value = value[index] if index < len(value) else None
        else:
            return None
    return value


def required_at(body: JsonBody, path: str) -> str:
    """Return the text at a path that must be there: 1 to 256 characters. Raises `Malformed`."""
    value = at_path(body.members, path)
    if is_rounded(value):
        value = at_path(body.as_written, path)
    text = as_text(value, path, 257) if value is not None else ""
    if not text or len(text) > 256:
        raise Malformed(f"{path} must be text of 1 to 256 characters")
    return text


def call_aliases(source: Source, body: JsonBody) -> tuple[str, ...]:
    """Return the sender's id of the call; none when no mapping names it."""
    if source.mapping is None or not source.mapping.call_id:
        return ()
    return (required_at(body, source.mapping.call_id),)


class Mapped:
    """What adapters share whose payloads a source's mapping explains; how they are signed is their own."""

    def normalise(self, source: Source, event_type: str, body: bytes, content_type: str) -> Facts:
        """See `Adapter.normalise`."""
        return normalise(source, body)

    def looked_up(self, source: Source, body: bytes) -> CallFacts:
        """See `Adapter.looked_up`: nothing is ever asked for."""
        return CallFacts(source, "")


def identity(source: Source, body: JsonBody, dedup: str) -> Identity:
    """Return what an event is known by: `dedup`, and what the mapping finds."""
    return Identity(
        dedup_fields=(dedup,), call_aliases=call_aliases(source, body), event_time=event_time(source, body)
    )


def event_time(source: Source, body: JsonBody) -> datetime | None:
    """Return the event's time where the mapping says, or None."""
    if source.mapping is None or not source.mapping.event_time:
        return None
    return _mapped(source.mapping, body.members).time(source.mapping.event_time)


def normalise(source: Source, body: bytes) -> Facts:
    """State what the mapping finds. Without a mapping there is nothing to say, and no stage."""
    mapping = source.mapping
    if mapping is None:
        return Facts(call=call_pb2.Call(), stated=(), aliases=(), rank=_RANK, stages=())
    parsed = JsonBody(body)
    payload = _mapped(mapping, parsed.members)
    aliases = call_aliases(source, parsed)
    moment = payload.time(mapping.event_time)
    statement = CallFacts(source, aliases[0] if aliases else "")
    is_text = mapping.kind == source_pb2.PAYLOAD_KIND_TEXT
    kind = provider_pb2.CONVERSATION_KIND_TEXT_MESSAGE if is_text else provider_pb2.CONVERSATION_KIND_CALL
    statement.put("kind", kind)
    statement.put("caller_number", payload.text(mapping.caller_number, most=64))
    statement.put("caller_name", payload.text(mapping.caller_name, most=256))
    statement.put("start_time", moment)
    stages: tuple[str, ...] = (RECORD,)
    recording, problem, text = None, "", ""
    if is_text:
        text = payload.text(mapping.text, most=CONTENT_MOST) or ""
        stages = (ANALYSE, RECORD) if text else (RECORD,)
    elif mapping.kind == source_pb2.PAYLOAD_KIND_CALL:
        recording, problem = _recording(source, payload.text(mapping.recording_url, most=4097))
        stages = (FETCH, TRANSCRIBE, ANALYSE, RECORD) if recording or problem else (RECORD,)
    return Facts(
        call=statement.call,
        stated=statement.stated,
        aliases=aliases,
        rank=_RANK,
        stages=stages,
        recording=recording,
        recording_problem=problem,
        text=text,
        event_time=moment,
        warnings=payload.warnings,
    )


def _mapped(mapping: source_pb2.PayloadMapping, payload: dict[str, Any]) -> Payload:
    """Return the payload with its members under the paths that lead to them."""
    message: Message = mapping
    paths = {path for _, path in message.ListFields() if isinstance(path, str)}
    return Payload({path: at_path(payload, path) for path in paths})


def _recording(source: Source, url: str | None) -> tuple[RecordingRequest | None, str]:
    """Return how to fetch a recording, or why not: the credential goes to the source's own base URL only."""
    if url is None:
        return None, ""
    path = source.mapping.recording_url if source.mapping else ""
    if not url.startswith(("https://", "http://")) or len(url) > 4096:
        return None, f"{path} must be an http or https URL of at most 4096 characters"
    headers = {}
    if source.fetch_credential and source.api_base_url and same_origin(url, source.api_base_url):
        headers["Authorization"] = f"Bearer {source.fetch_credential}"
    return RecordingRequest(key=link_key(url), url=url, headers=headers), ""
