"""Which fields of a Twilio callback state which facts, whichever kind of callback it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from trunkline.common.v1 import provider_pb2

from trunkline_gateway.providers.base import ANALYSE, FETCH, RECORD, TRANSCRIBE, Facts, Malformed, Source
from trunkline_gateway.providers.call_facts import CallFacts
from trunkline_gateway.providers.payload import Payload
from trunkline_gateway.providers.scalars import CONTENT_MOST
from trunkline_gateway.providers.twilio import api

_INBOUND, _OUTBOUND = provider_pb2.DIRECTION_INBOUND, provider_pb2.DIRECTION_OUTBOUND
_DIRECTIONS = {"inbound": _INBOUND, "incoming": _INBOUND, "outbound": _OUTBOUND}
# Of two events with the same time the higher rank's value stands.
_RECORDING_RANKS = {"in-progress": 10, "completed": 30, "absent": 30, "failed": 30}
_CALL_RANKS = {"queued": 5, "initiated": 5, "ringing": 6, "in-progress": 10, "answered": 10}
_ENDED = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
_ENDED_RANK = 20
_ANSWERED = {"in-progress": True, "answered": True, "completed": True} | dict.fromkeys(
    _ENDED - {"completed"}, False
)
# `<Record action>` has no status: it is posted when the recording has ended, before it can be had.
_ACTION = "action"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a callback is about: exactly one of a message, a recording or a call."""

    aliases: tuple[str, ...]
    status: str
    message: str = ""
    recording: str = ""

    @property
    def dedup_fields(self) -> tuple[str, ...]:
        """What makes it the same event."""
        return (self.message or self.recording or self.aliases[-1], self.status)


def subject_of(payload: Payload) -> Subject:
    """Tell what a callback is about. Raises `Malformed` when it names neither call, conference nor message."""
    message = payload.identifier("MessageSid", "SmsMessageSid", "SmsSid")
    if message is not None:
        return Subject((message,), _status(payload, "MessageStatus", "SmsStatus"), message=message)
    aliases = _call_aliases(payload)
    recording = payload.identifier("RecordingSid")
    if recording is not None:
        return Subject(aliases, _status(payload, "RecordingStatus") or _ACTION, recording=recording)
    status = _status(payload, "CallStatus", "StatusCallbackEvent")
    if not status:
        raise Malformed("one of RecordingSid, CallStatus and MessageSid is required")
    return Subject(aliases, _status(payload, "DialCallStatus") or status)


def event_time(payload: Payload) -> datetime | None:
    """Return when it happened: of a recording when it began, the same in all of its callbacks."""
    return payload.time("RecordingStartTime", "Timestamp")


def facts_of(source: Source, payload: Payload) -> Facts:
    """State the facts. Raises `Malformed`."""
    subject = subject_of(payload)
    if subject.message:
        return _message(source, payload, subject)
    statement = _statement(source, payload, subject.aliases[0])
    stages: tuple[str, ...] = (RECORD,)
    rank, recording, problem = _call_rank(subject.status), None, ""
    if subject.recording:
        rank = _RECORDING_RANKS.get(subject.status, 30 if subject.status == _ACTION else 10)
        if subject.status not in _RECORDING_RANKS and subject.status != _ACTION:
            payload.warn(f"RecordingStatus must be one of {', '.join(_RECORDING_RANKS)}")
        if payload.text("RecordingDuration") != "-1":  # how Twilio says that it does not know
            statement.put("recording_duration", payload.duration("RecordingDuration"))
        statement.put("start_time", payload.time("RecordingStartTime"))
        if subject.status in ("completed", _ACTION):
            stages = (FETCH, TRANSCRIBE, ANALYSE, RECORD)
            recording, problem = api.recording(source, payload, subject.recording)
    elif not payload.text("ParentCallSid"):
        _call(statement, payload, subject.status)
    else:
        _leg(statement, payload, subject.status)
    unknown = "caller_number" not in statement.stated and subject.aliases[0].startswith("CA")
    return Facts(
        call=statement.call,
        stated=statement.stated,
        aliases=subject.aliases,
        rank=rank,
        stages=stages,
        recording=recording,
        recording_problem=problem,
        event_time=event_time(payload),
        lookup=api.call(source, payload, subject.aliases[0]) if unknown and recording else None,
        warnings=payload.warnings,
    )


def looked_up(source: Source, payload: Payload) -> CallFacts:
    """State what Twilio's API says of a call."""
    statement = CallFacts(source, payload.identifier("sid") or "", payload.identifier("account_sid") or "")
    _parties(statement, payload, "direction", "from", "to", "caller_name")
    statement.put("start_time", payload.time("start_time"))
    statement.put("duration", payload.duration("duration"))
    statement.put("answered", _ANSWERED.get(_status(payload, "status")))
    return statement


def _message(source: Source, payload: Payload, subject: Subject) -> Facts:
    """State a text message: one that came in, or the delivery of one that was sent."""
    incoming = subject.status in ("", "received", "receiving")
    statement = CallFacts(source, subject.message, payload.identifier("AccountSid") or "")
    statement.put("kind", provider_pb2.CONVERSATION_KIND_TEXT_MESSAGE)
    statement.put("direction", _INBOUND if incoming else _OUTBOUND)
    customer, business = ("From", "To") if incoming else ("To", "From")
    statement.put("caller_number", payload.text(customer, most=64))
    statement.put("tracking_number", payload.text(business, most=64))
    statement.put("caller_name", payload.text("ProfileName", most=256))
    text = payload.text("Body", most=CONTENT_MOST) or ""
    return Facts(
        call=statement.call,
        stated=statement.stated,
        aliases=subject.aliases,
        rank=30 if incoming else 20,
        stages=(ANALYSE, RECORD) if text else (RECORD,),
        text=text,
        media=api.media(source, payload),
        event_time=event_time(payload),
        warnings=payload.warnings,
    )


def _statement(source: Source, payload: Payload, call_id: str) -> CallFacts:
    statement = CallFacts(source, call_id, payload.identifier("AccountSid") or "")
    statement.put("kind", provider_pb2.CONVERSATION_KIND_CALL)
    if not payload.text("ParentCallSid"):
        _parties(statement, payload, "Direction", "From", "To", "CallerName")
        statement.put("duration", payload.duration("CallDuration"))
    return statement


def _parties(statement: CallFacts, payload: Payload, *names: str) -> None:
    direction_name, caller, called, caller_name = names
    direction = _DIRECTIONS.get((payload.text(direction_name) or "").lower().partition("-")[0])
    statement.put("direction", direction)
    customer, business = (called, caller) if direction == _OUTBOUND else (caller, called)
    statement.put("caller_number", payload.text(customer, most=64))
    statement.put("tracking_number", payload.text(business, most=64))
    statement.put("caller_name", payload.text(caller_name, most=256))


def _call(statement: CallFacts, payload: Payload, status: str) -> None:
    """State how far a call came. At its end it began as long before as it lasted."""
    statement.put("answered", _ANSWERED.get(status))
    moment = payload.time("Timestamp")
    if moment is not None and status in _ENDED:
        moment -= (payload.duration("CallDuration") or Duration()).ToTimedelta()
    if status in _ENDED or status in ("queued", "initiated", "ringing"):
        statement.put("start_time", moment)
    if status not in _ENDED and status not in _CALL_RANKS and not payload.text("StatusCallbackEvent"):
        payload.warn(f"CallStatus must be one of {', '.join([*_CALL_RANKS, *sorted(_ENDED)])}")


def _leg(statement: CallFacts, payload: Payload, status: str) -> None:
    """State what the business's leg of a forwarded call says: where it rang, and that somebody answered.

    Of several phones that ring at once most are not answered, which says nothing of the call.
    """
    statement.put("business_number", payload.text("To", most=64))
    if status in ("in-progress", "answered"):
        statement.put("answered", True)


def _call_rank(status: str) -> int:
    return _ENDED_RANK if status in _ENDED else _CALL_RANKS.get(status, 5)


def _call_aliases(payload: Payload) -> tuple[str, ...]:
    """Return the ids of the call, the lasting one first: a leg's is its parent's, a conference stands in for none."""
    call = payload.identifier("CallSid")
    parent = payload.identifier("ParentCallSid")
    if call is not None:
        return (parent, call) if parent is not None and parent != call else (call,)
    conference = payload.identifier("ConferenceSid")
    if conference is None:
        raise Malformed("one of CallSid, ConferenceSid and MessageSid is required")
    return (conference,)


def _status(payload: Payload, *names: str) -> str:
    return (payload.text(*names, most=64) or "").lower()
