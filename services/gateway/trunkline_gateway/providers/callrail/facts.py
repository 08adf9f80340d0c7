"""Which members of a CallRail payload state which facts of a call."""

from __future__ import annotations

from trunkline.common.v1 import provider_pb2

from trunkline_gateway.providers.base import Source
from trunkline_gateway.providers.call_facts import CallFacts
from trunkline_gateway.providers.callrail.forms import SubmittedForm
from trunkline_gateway.providers.payload import Payload

_DIRECTIONS = {
    "inbound": provider_pb2.DIRECTION_INBOUND,
    "outbound": provider_pb2.DIRECTION_OUTBOUND,
}


def state(
    source: Source,
    event_type: str,
    payload: Payload,
    provider_call_id: str,
    form: SubmittedForm | None,
    *,
    states_recording: bool,
) -> CallFacts:
    """Return what the payload says of the conversation; every member may be missing."""
    statement = CallFacts(source, provider_call_id)
    if event_type.startswith("text_message_"):
        _text_message(statement, payload, sent=event_type == "text_message_sent")
    elif form is not None:
        _form(statement, payload, form)
    else:
        _call(statement, event_type, payload)
        if states_recording:  # else an older figure would stand over what was measured on the sound itself
            statement.put("recording_duration", payload.duration("recording_duration"))
    _marketing(statement, payload)
    _edited(statement, payload)
    return statement


def _call(statement: CallFacts, event_type: str, payload: Payload) -> None:
    statement.put("kind", provider_pb2.CONVERSATION_KIND_CALL)
    statement.put("direction", _direction(event_type, payload))
    statement.put("caller_number", payload.text("customer_phone_number", "callernum", most=64))
    statement.put("caller_name", payload.text("customer_name", "callername", most=256))
    statement.put("tracking_number", payload.text("tracking_phone_number", "trackingnum", most=64))
    statement.put("business_number", payload.text("business_phone_number", "destinationnum", most=64))
    statement.put("start_time", payload.time("start_time", "datetime"))
    statement.put("duration", payload.duration("duration"))
    statement.put("answered", payload.flag("answered"))
    statement.put("voicemail", payload.flag("voicemail"))


def _text_message(statement: CallFacts, payload: Payload, *, sent: bool) -> None:
    statement.put("kind", provider_pb2.CONVERSATION_KIND_TEXT_MESSAGE)
    statement.put("direction", _DIRECTIONS["outbound" if sent else "inbound"])
    customer, business = "source_number", "destination_number"
    if sent:
        customer, business = business, customer
    statement.put("caller_number", payload.text("customer_phone_number", customer, most=64))
    statement.put("caller_name", payload.text("customer_name", most=256))
    statement.put("tracking_number", payload.text("tracking_phone_number", business, most=64))
    statement.put("start_time", payload.time("timestamp", "sent_at", "created_at"))


def _form(statement: CallFacts, payload: Payload, form: SubmittedForm) -> None:
    statement.put("kind", provider_pb2.CONVERSATION_KIND_FORM)
    statement.put("direction", provider_pb2.DIRECTION_INBOUND)
    statement.put(
        "caller_number", payload.text("customer_phone_number", "phone_number", most=64) or form.phone
    )
    statement.put("caller_name", payload.text("customer_name", most=256) or form.name)
    statement.put("caller_email", payload.text("customer_email", "email", most=256) or form.email)
    statement.put("start_time", payload.time("submitted_at", "timestamp", "created_at"))


def _marketing(statement: CallFacts, payload: Payload) -> None:
    origin = payload.text("source_name", "formatted_tracking_source", "source", "utm_source")
    statement.put("marketing_source", origin)
    statement.put("marketing_medium", payload.text("medium", "utm_medium"))
    statement.put("campaign", payload.text("campaign", "utm_campaign"))
    statement.put("landing_page_url", payload.text("landing_page_url", "landingpage"))


def _edited(statement: CallFacts, payload: Payload) -> None:
    """State what people edit afterwards: here empty is a statement too, since a note can be taken away."""
    if payload.has("tags"):
        taken_away = str(payload.raw("tags") or "").strip() == ""
        statement.put("tags", [] if taken_away else payload.texts("tags"))
    statement.put("note", payload.edited("note", most=10_000))
    statement.put("value", payload.edited("value", most=64))


def _direction(event_type: str, payload: Payload) -> int | None:
    text = payload.text("direction")
    if text is None:
        return _DIRECTIONS["outbound"] if event_type.startswith("outbound_") else None
    if text.lower() not in _DIRECTIONS:
        payload.warn("direction must be inbound or outbound; it was left out")
    return _DIRECTIONS.get(text.lower())
