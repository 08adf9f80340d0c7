"""CallRail: ten event types, two id styles, two encodings, and types that wobble."""

from __future__ import annotations

import json
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
from gateway_deliveries import CALLRAIL, FORM, callrail, source
from trunkline.common.v1 import provider_pb2
from trunkline_gateway.providers.base import ANALYSE, FETCH, RECORD, TRANSCRIBE, Facts, Malformed
from trunkline_gateway.providers.callrail.adapter import RANKS
from trunkline_gateway.providers.registry import adapter_for

ADAPTER = adapter_for(CALLRAIL)
ALL = (FETCH, TRANSCRIBE, ANALYSE, RECORD)
SOURCE = source(CALLRAIL, provider_account="227799611", fetch_credential="key-1")
CALL: dict[str, Any] = {
    "id": 766970532,
    "resource_id": "CAL0123456789abcdef",
    "answered": True,
    "customer_name": "Kaylah Mills",
    "customer_phone_number": "+12148654559",
    "tracking_phone_number": "+14045558514",
    "business_phone_number": "",
    "direction": "inbound",
    "duration": "13",
    "voicemail": False,
    "recording": "https://app.callrail.com/calls/766970532/recording/redirect?access_key=aaaa",
    "recording_duration": 8,
    "start_time": "2026-02-19T13:41:00.236-05:00",
    "timestamp": "2026-02-19T13:41:00.236-05:00",
    "tags": ["hot", "roof"],
    "note": "",
    "value": "100.00",
    "source_name": "Google Ads",
    "utm_medium": "cpc",
}


def facts(payload: dict[str, Any], event_type: str = "post_call", of: Any = SOURCE) -> Facts:
    return ADAPTER.normalise(of, event_type, json.dumps(payload).encode(), "application/json")


def test_a_finished_call_states_exactly_what_the_payload_does() -> None:
    stated = facts(CALL)
    call = stated.call
    assert set(stated.stated) == {
        "kind", "direction", "caller_number", "caller_name", "tracking_number", "start_time", "duration",
        "answered", "voicemail", "recording_duration", "tags", "note", "value", "marketing_source", "marketing_medium",
    }  # fmt: skip
    assert call.kind == provider_pb2.CONVERSATION_KIND_CALL
    assert (call.provider_account, call.provider_call_id) == ("227799611", "CAL0123456789abcdef")
    assert call.source == "tenants/acme/sources/s-1"
    assert call.direction == provider_pb2.DIRECTION_INBOUND
    assert (call.caller_number, call.caller_name) == ("+12148654559", "Kaylah Mills")
    assert call.duration.ToMilliseconds() == 13_000
    assert call.start_time.ToJsonString() == "2026-02-19T18:41:00.236Z"
    assert list(call.tags) == ["hot", "roof"]
    assert (call.value, call.marketing_source, call.marketing_medium) == ("100.00", "Google Ads", "cpc")
    assert stated.aliases == ("CAL0123456789abcdef", "766970532")
    assert stated.stages == ALL


def test_the_recording_is_asked_for_at_the_api_not_at_the_webhooks_link() -> None:
    request = facts(CALL).recording
    assert request is not None
    assert request.url == "https://api.callrail.com/v3/a/227799611/calls/CAL0123456789abcdef/recording.json"
    assert request.headers == {"Authorization": 'Token token="key-1"'}
    assert request.url_field == "url"
    assert "key-1" not in repr(request)


def test_a_base_of_its_own_takes_the_place_of_callrails() -> None:
    other = source(
        CALLRAIL, provider_account="2/7", fetch_credential="k", api_base_url="http://127.0.0.1:9/x/"
    )
    request = facts(CALL, of=other).recording
    assert request is not None
    assert request.url == "http://127.0.0.1:9/x/v3/a/2%2F7/calls/CAL0123456789abcdef/recording.json"


def test_without_the_account_the_recording_is_a_problem_that_is_said_not_a_lost_call() -> None:
    stated = facts(CALL, of=source(CALLRAIL))
    assert stated.recording is None
    assert "provider_account" in stated.recording_problem
    assert "caller_number" in stated.stated


@pytest.mark.parametrize("event_type", RANKS)
def test_every_event_type_is_understood(event_type: str) -> None:
    payload = {**CALL, "content": "call me", "source_number": "+1", "destination_number": "+2"}
    stated = facts(payload, event_type)
    assert stated.rank == RANKS[event_type]
    assert stated.stages[-1] == RECORD
    identity = ADAPTER.identify(SOURCE, event_type, callrail(payload))
    assert identity.dedup_fields[0] == "CAL0123456789abcdef"
    assert identity.event_time == stated.event_time
    assert identity.call_aliases == stated.aliases


def test_an_unknown_event_type_is_answered_with_the_known_ones() -> None:
    for ask in (
        lambda: ADAPTER.identify(SOURCE, "postcall", callrail(CALL)),
        lambda: facts(CALL, "postcall"),
    ):
        with pytest.raises(Malformed, match=r"pre_call.*post_call.*convert_assist_complete"):
            ask()


def test_later_event_types_outrank_earlier_ones() -> None:
    assert RANKS["pre_call"] < RANKS["call_routing_complete"] < RANKS["post_call"] < RANKS["call_modified"]


@pytest.mark.parametrize("event_type", ["pre_call", "call_routing_complete", "form_submission"])
def test_events_without_sound_are_only_recorded(event_type: str) -> None:
    assert facts(CALL, event_type).stages == (RECORD,)


@pytest.mark.parametrize(
    "given", [{"recording": None, "recording_duration": None}, {"recording": "", "recording_duration": "0"}]
)
def test_a_call_that_was_not_recorded_is_only_recorded_here_too(given: dict[str, Any]) -> None:
    stated = facts({**CALL, **given})
    assert stated.stages == (RECORD,)
    assert stated.recording is None


def test_a_recording_that_is_not_attached_yet_is_asked_for_all_the_same() -> None:
    stated = facts({**CALL, "recording": None})
    assert stated.recording is not None


class TestModified:
    @pytest.mark.parametrize("changes", [["tags"], ["note", "value"], [], None, "tags", "[]"])
    def test_transcribes_nothing_when_the_recording_is_the_same(self, changes: Any) -> None:
        stated = facts({**CALL, "changes": changes}, "call_modified")
        assert stated.stages == (RECORD,)
        assert "recording_duration" not in stated.stated

    @pytest.mark.parametrize("changes", [["recording_duration"], "tags,recording_duration", '["recording"]'])
    def test_transcribes_again_when_the_recording_changed(self, changes: Any) -> None:
        assert facts({**CALL, "changes": changes}, "outbound_call_modified").stages == ALL

    def test_the_same_recording_told_of_twice_is_the_same_and_a_longer_one_another(self) -> None:
        told = facts(CALL).recording
        again = facts(
            {**CALL, "recording_duration": "8", "changes": ["recording_duration"]}, "call_modified"
        ).recording
        longer = facts(
            {**CALL, "recording_duration": 12, "changes": ["recording_duration"]}, "call_modified"
        ).recording
        assert told is not None
        assert again is not None
        assert longer is not None
        assert told.key == again.key != longer.key

    def test_two_changes_are_two_events_and_one_change_sent_twice_is_one(self) -> None:
        first = ADAPTER.identify(SOURCE, "call_modified", callrail({**CALL, "note": "a"}))
        again = ADAPTER.identify(SOURCE, "call_modified", callrail({**CALL, "note": "a"}))
        second = ADAPTER.identify(SOURCE, "call_modified", callrail({**CALL, "note": "b"}))
        assert first == again
        assert first.dedup_fields != second.dedup_fields

    def test_a_note_that_was_taken_away_is_stated_empty(self) -> None:
        stated = facts({**CALL, "note": None, "tags": [], "value": ""}, "call_modified")
        assert {"note", "tags", "value"} <= set(stated.stated)
        assert (stated.call.note, list(stated.call.tags), stated.call.value) == ("", [], "")


class TestTexts:
    MESSAGE: ClassVar[dict[str, Any]] = {
        "id": 12,
        "resource_id": "SMT0123",
        "source_number": "+15550100",
        "destination_number": "+15550199",
        "content": "Do you fix roofs?",
        "message_type": "sms",
        "media_urls": [],
        "timestamp": "2026-02-19T13:41:00Z",
    }

    def test_a_text_is_analysed_by_its_words(self) -> None:
        stated = facts(self.MESSAGE, "text_message_received")
        assert stated.call.kind == provider_pb2.CONVERSATION_KIND_TEXT_MESSAGE
        assert (stated.call.caller_number, stated.call.tracking_number) == ("+15550100", "+15550199")
        assert stated.text == "Do you fix roofs?"
        assert stated.stages == (ANALYSE, RECORD)
        assert "roofs" not in repr(stated)

    def test_of_a_sent_text_the_customer_is_who_gets_it(self) -> None:
        stated = facts(self.MESSAGE, "text_message_sent")
        assert (stated.call.caller_number, stated.call.tracking_number) == ("+15550199", "+15550100")
        assert stated.call.direction == provider_pb2.DIRECTION_OUTBOUND

    def test_pictures_alone_are_recorded(self) -> None:
        message = {**self.MESSAGE, "content": None, "message_type": "mms", "media_urls": ["https://x/y.jpg"]}
        assert facts(message, "text_message_received").stages == (RECORD,)

    def test_a_number_of_a_text_is_not_a_number_of_a_call(self) -> None:
        only_number = {"id": 12, "content": "hi"}
        assert facts(only_number, "text_message_received").aliases == ("sms-12",)
        assert facts(only_number, "form_submission").aliases == ("form-12",)
        assert facts(only_number, "pre_call").aliases == ("12",)


class TestWobble:
    @pytest.mark.parametrize("duration", ["13", 13, 13.0, " 13 "])
    def test_durations(self, duration: Any) -> None:
        assert (
            facts({**CALL, "duration": duration, "recording_duration": duration}).call.duration.seconds == 13
        )

    @pytest.mark.parametrize(("given", "meant"), [(True, True), ("true", True), ("0", False), (0, False)])
    def test_flags(self, given: Any, meant: bool) -> None:
        stated = facts({**CALL, "answered": given})
        assert stated.call.answered is meant
        assert "answered" in stated.stated

    @pytest.mark.parametrize("payload", [{"id": 7}, {"id": "7"}, {"id": 7.0}])
    def test_numeric_ids(self, payload: dict[str, Any]) -> None:
        assert facts(payload).aliases == ("7",)

    def test_a_long_numeric_id_keeps_its_digits(self) -> None:
        assert facts({"id": 123456789012345678901}).aliases == ("123456789012345678901",)

    def test_a_form_states_the_same_as_json(self) -> None:
        form = urlencode(
            {k: str(v).lower() if isinstance(v, bool) else v for k, v in CALL.items()}, doseq=True
        )
        form = form.replace("tags=", "tags%5B%5D=")
        from_form = ADAPTER.normalise(SOURCE, "post_call", form.encode(), FORM)
        from_json = facts(CALL)
        assert from_form.call == from_json.call
        assert from_form.stages == from_json.stages
        assert from_form.recording == from_json.recording
        assert set(from_form.stated) == set(from_json.stated)

    def test_json_under_a_forms_type_is_read_as_json(self) -> None:
        stated = ADAPTER.normalise(SOURCE, "post_call", json.dumps(CALL).encode(), FORM)
        assert stated.call == facts(CALL).call

    def test_the_start_stands_in_for_a_missing_timestamp(self) -> None:
        without = {k: v for k, v in CALL.items() if k != "timestamp"}
        assert facts(without).event_time == facts(CALL).event_time
        assert facts({"id": 7}).event_time is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": None, "resource_id": ""}, "one of resource_id and id is required"),
        ({"resource_id": "../../secret"}, "resource_id must be"),
    ],
)
def test_an_id_that_cannot_be_read_is_named_and_never_quoted(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Malformed, match=says) as caught:
        facts({**CALL, **change})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"duration": "soon"}, "duration must be seconds"),
        ({"duration": -1}, "duration must be seconds"),
        ({"duration": True}, "duration must be seconds"),
        ({"answered": "perhaps"}, "answered must be true or false"),
        ({"direction": "sideways"}, "direction must be inbound or outbound"),
        ({"start_time": "yesterday"}, "start_time must be an ISO 8601"),
        ({"customer_name": {"first": "K"}}, "customer_name must be text"),
        ({"tags": {"a": 1}}, "tags must be a list"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_named_and_never_quoted(
    change: dict[str, Any], says: str
) -> None:
    stated = facts({**CALL, **change})
    (warning,) = stated.warnings
    assert says in warning
    ((name, value),) = change.items()
    assert name not in stated.stated
    assert str(value) not in warning
    assert stated.stages == ALL
    assert ADAPTER.identify(SOURCE, "post_call", callrail({**CALL, **change})).event_time == stated.event_time


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="JSON object"):
        ADAPTER.normalise(SOURCE, "post_call", body, "application/json")


def test_text_that_no_store_takes_is_cleaned() -> None:
    assert facts({**CALL, "customer_name": "  K\x00aylah "}).call.caller_name == "Kaylah"
