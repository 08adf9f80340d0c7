"""Twilio's callbacks, mapped payloads of other senders, and every parser under any input."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from gateway_deliveries import (
    CALLRAIL,
    FORM,
    GENERIC,
    NOW,
    RECORDING,
    STANDARD,
    TWILIO,
    WHSEC,
    delivery,
    generic,
    generic_options,
    source,
    standard,
    twilio,
)
from hypothesis import given
from hypothesis import strategies as st
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway.providers.base import ANALYSE, FETCH, RECORD, TRANSCRIBE, Facts, Malformed, Rejected
from trunkline_gateway.providers.registry import adapter_for

ALL = (FETCH, TRANSCRIBE, ANALYSE, RECORD)
STATUS = "recording_status"


def recording(change: dict[str, str], of: Any = None) -> Facts:
    body = urlencode({**RECORDING, **change}).encode()
    return adapter_for(TWILIO).normalise(of or source(TWILIO), STATUS, body, FORM)


class TestTwilio:
    def test_a_finished_recording_goes_all_the_way(self) -> None:
        stated = recording({"From": "+15550100", "To": "+15550199", "Direction": "inbound"})
        assert stated.stages == ALL
        assert stated.aliases == ("CA0123456789abcdef",)
        assert (stated.call.caller_number, stated.call.tracking_number) == ("+15550100", "+15550199")
        assert stated.call.provider_account == "AC0123456789abcdef"
        assert stated.call.recording_duration.seconds == 31
        assert stated.call.start_time.ToJsonString() == "2026-11-20T11:58:00Z"

    def test_the_wav_is_fetched_with_the_newest_secret(self) -> None:
        request = recording({}).recording
        assert request is not None
        assert request.url == RECORDING["RecordingUrl"] + ".wav?RequestedChannels=2"
        expected = "Basic QUMwMTIzNDU2Nzg5YWJjZGVmOjA3MmU3N2U0MjZmOTI3MzhhNzJmZTIzYzRkMTk1M2I0"
        assert request.headers == {"Authorization": expected}
        assert request.key == "RE0123456789abcdef"

    def test_a_fetch_credential_goes_before_the_secret(self) -> None:
        request = recording({}, source(TWILIO, provider_account="AC9", fetch_credential="t")).recording
        assert request is not None
        assert request.headers == {"Authorization": "Basic QUM5OnQ="}

    def test_a_base_of_its_own_is_asked_instead_and_trusted(self) -> None:
        request = recording({}, source(TWILIO, api_base_url="http://127.0.0.1:9999")).recording
        assert request is not None
        assert request.url.startswith("http://127.0.0.1:9999/2010-04-01/Accounts/AC")
        assert "Authorization" in request.headers

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.example.com/2010-04-01/x",
            "https://api.twilio.com.evil.example.com/x",
            "https://eviltwilio.com/x",
            "http://api.twilio.com/x",
            "https://api.twilio.com@evil.example.com/x",
            "https://api.twilio.com:8443/x",
        ],
    )
    @pytest.mark.parametrize("base", ["", "https://api.twilio.com", "http://127.0.0.1:9999"])
    def test_nobody_else_is_shown_the_credential(self, url: str, base: str) -> None:
        request = recording({"RecordingUrl": url}, source(TWILIO, api_base_url=base)).recording
        assert request is not None
        assert request.headers == {}

    @pytest.mark.parametrize("status", ["in-progress", "absent", "failed"])
    def test_other_statuses_are_recorded(self, status: str) -> None:
        stated = recording({"RecordingStatus": status, "RecordingDuration": "-1"})
        assert stated.stages == (RECORD,)
        assert stated.recording is None
        assert "recording_duration" not in stated.stated

    def test_two_statuses_are_two_events_of_one_call(self) -> None:
        adapter = adapter_for(TWILIO)
        began = adapter.identify(
            source(TWILIO), STATUS, twilio({**RECORDING, "RecordingStatus": "in-progress"})
        )
        ended = adapter.identify(source(TWILIO), STATUS, twilio(RECORDING))
        assert began.dedup_fields != ended.dedup_fields
        assert began.call_aliases == ended.call_aliases
        assert recording({"RecordingStatus": "in-progress"}).rank < recording({}).rank

    def test_json_states_the_same_as_a_form(self) -> None:
        body = json.dumps(RECORDING).encode()
        stated = adapter_for(TWILIO).normalise(source(TWILIO), STATUS, body, "application/json")
        assert stated == recording({})

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"RecordingStatus": "paused"}, "in-progress, completed, absent, failed"),
            ({"RecordingStartTime": "soon"}, "RecordingStartTime"),
            ({"RecordingDuration": "1:02"}, "RecordingDuration"),
        ],
    )
    def test_what_cannot_be_read_is_left_out_and_named(self, change: dict[str, str], says: str) -> None:
        (warning,) = recording(change).warnings
        assert says in warning

    def test_a_callback_about_nothing_is_malformed(self) -> None:
        with pytest.raises(Malformed, match="one of CallSid, ConferenceSid and MessageSid"):
            recording({"CallSid": ""})

    @pytest.mark.parametrize("url", ["", "ftp://x", "https://x/" + "y" * 4096])
    def test_a_completed_recording_without_its_url_is_a_problem_that_is_said(self, url: str) -> None:
        stated = recording({"RecordingUrl": url})
        assert "RecordingUrl" in stated.recording_problem
        assert stated.recording is None

    def test_an_unknown_event_type_is_answered_with_the_known_one(self) -> None:
        with pytest.raises(Malformed, match=STATUS):
            adapter_for(TWILIO).identify(source(TWILIO), "status", twilio(RECORDING))


def mapping(kind: str, **paths: str) -> source_pb2.PayloadMapping:
    return source_pb2.PayloadMapping(kind=source_pb2.PayloadKind.Value(f"PAYLOAD_KIND_{kind}"), **paths)


CALL = {
    "data": {
        "call": {"id": 77, "from": "+15550100", "who": "Ann", "audio": "https://cdn.example.com/a.wav?sig=1"},
        "at": 1_771_526_460,
        "messages": [{"body": "Hello"}],
    }
}
CALL_MAPPING = mapping(
    "CALL",
    call_id="data.call.id",
    event_time="data.at",
    caller_number="data.call.from",
    caller_name="data.call.who",
    recording_url="data.call.audio",
)


def mapped(of: Any, payload: Any = CALL) -> Facts:
    return adapter_for(of.provider).normalise(
        of, "call.ended", json.dumps(payload).encode(), "application/json"
    )


class TestMapped:
    def test_a_call_goes_all_the_way(self) -> None:
        stated = mapped(source(STANDARD, WHSEC, mapping=CALL_MAPPING))
        assert stated.stages == ALL
        assert stated.aliases == ("77",)
        assert (stated.call.caller_number, stated.call.caller_name) == ("+15550100", "Ann")
        assert stated.event_time is not None
        assert stated.event_time.isoformat() == "2026-02-19T18:41:00+00:00"
        assert stated.recording is not None
        assert stated.recording.headers == {}

    def test_a_signed_link_that_changed_is_the_same_recording(self) -> None:
        of = source(GENERIC, mapping=CALL_MAPPING, hmac=generic_options())
        again = json.loads(json.dumps(CALL).replace("sig=1", "sig=2"))
        first, second = mapped(of).recording, mapped(of, again).recording
        assert first is not None
        assert second is not None
        assert first.key == second.key

    @pytest.mark.parametrize(
        ("base", "shown"),
        [("https://cdn.example.com", True), ("https://other.example.com", False), ("", False)],
    )
    def test_the_credential_goes_to_the_sources_own_base_only(self, base: str, shown: bool) -> None:
        of = source(STANDARD, WHSEC, mapping=CALL_MAPPING, fetch_credential="tok", api_base_url=base)
        request = mapped(of).recording
        assert request is not None
        assert request.headers == ({"Authorization": "Bearer tok"} if shown else {})

    def test_a_text_is_analysed(self) -> None:
        stated = mapped(source(STANDARD, WHSEC, mapping=mapping("TEXT", text="data.messages.0.body")))
        assert stated.text == "Hello"
        assert stated.stages == (ANALYSE, RECORD)
        assert stated.call.kind == provider_pb2.CONVERSATION_KIND_TEXT_MESSAGE

    def test_a_call_without_its_recording_is_recorded(self) -> None:
        assert mapped(
            source(STANDARD, WHSEC, mapping=CALL_MAPPING), {"data": {"call": {"id": 1}}}
        ).stages == (RECORD,)

    def test_without_a_mapping_there_is_nothing_to_do(self) -> None:
        stated = adapter_for(GENERIC).normalise(source(GENERIC), "x", b"not json", "text/plain")
        assert stated.stages == ()

    @pytest.mark.parametrize(
        "payload", [{}, {"data": []}, {"data": {"call": {"id": {"a": 1}}}}, {"data": {"call": {"id": ""}}}]
    )
    def test_a_call_id_that_is_not_there_is_named(self, payload: Any) -> None:
        with pytest.raises(Malformed, match=r"data\.call\.id"):
            mapped(source(STANDARD, WHSEC, mapping=CALL_MAPPING), payload)

    def test_standard_webhooks_are_the_same_event_by_their_id(self) -> None:
        of = source(STANDARD, WHSEC)
        adapter = adapter_for(STANDARD)
        assert set(adapter.identity_headers) == {"webhook-id", "svix-id"}
        first = adapter.identify(of, "x", standard(b"{}"))
        assert first.dedup_fields == ("msg_1",)
        assert first.call_aliases == ()
        with pytest.raises(Malformed, match="webhook-id"):
            adapter.identify(of, "x", delivery(b"{}"))

    def test_a_generic_event_is_known_by_its_path_else_by_its_body(self) -> None:
        adapter = adapter_for(GENERIC)
        by_path = source(GENERIC, hmac=generic_options(dedup_path="data.call.id"))
        body = json.dumps(CALL).encode()
        assert adapter.identify(by_path, "x", generic(body)).dedup_fields == ("77",)
        by_body = source(GENERIC, hmac=generic_options())
        one, other = (adapter.identify(by_body, "x", generic(raw)).dedup_fields for raw in (b"a", b"b"))
        assert one != other
        with pytest.raises(Malformed, match=r"data\.call\.id"):
            adapter.identify(by_path, "x", generic(b"{}"))

    @pytest.mark.parametrize(
        "written",
        ["123456789012345678901", "9007199254740993.0", "1e400", "-18446744073709551617", "1" * 200],
    )
    def test_an_id_is_digit_for_digit_what_the_sender_wrote(self, written: str) -> None:
        adapter = adapter_for(GENERIC)
        of = source(
            GENERIC, hmac=generic_options(dedup_path="id"), mapping=mapping("CALL", call_id="calls.0")
        )
        identity = adapter.identify(of, "x", generic(f'{{"id": {written}, "calls": [{written}]}}'.encode()))
        assert (identity.dedup_fields, identity.call_aliases) == ((written,), (written,))

    def test_an_id_of_too_many_digits_is_refused(self) -> None:
        of = source(GENERIC, hmac=generic_options(dedup_path="id"))
        with pytest.raises(Malformed, match="id must be text of 1 to 256"):
            adapter_for(GENERIC).identify(of, "x", generic(b'{"id": %s}' % (b"9" * 5_000)))


SOURCES = {
    "callrail": (source(CALLRAIL, provider_account="1", fetch_credential="k"), "call_modified"),
    "callrail text": (source(CALLRAIL), "text_message_received"),
    "callrail form": (source(CALLRAIL), "form_submission"),
    "twilio": (source(TWILIO), STATUS),
    "twilio call": (source(TWILIO), "call_status"),
    "twilio message": (source(TWILIO), "message"),
    "standard": (source(STANDARD, WHSEC, mapping=CALL_MAPPING), "x"),
    "generic": (
        source(
            GENERIC,
            hmac=generic_options(dedup_path="id"),
            mapping=mapping("TEXT", text="text", event_time="at"),
        ),
        "x",
    ),
}
NAMES = st.sampled_from(
    [
        "id", "resource_id", "duration", "answered", "tags", "changes", "recording", "recording_duration",
        "timestamp", "start_time", "customer_name", "direction", "content", "value", "CallSid", "RecordingSid",
        "RecordingStatus", "RecordingUrl", "RecordingDuration", "RecordingStartTime", "data", "call", "text", "at",
        "form_data", "form_data[phone]", "media_urls", "MessageSid", "CallStatus", "Timestamp", "MediaUrl0", "Body",
        "ParentCallSid", "ConferenceSid", "CallDuration", "From", "note",
    ]
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["completed", "recording_duration", "https://[x", "https://a:b/", "2026-13-01", "[", "[[", "9" * 400]
    )
)
JSON = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4)
    ),
)


def read(name: str, body: bytes, content_type: str) -> None:
    of, event_type = SOURCES[name]
    adapter = adapter_for(of.provider)
    what = delivery(body, content_type=content_type, webhook_id="m")
    for step in (
        lambda: adapter.identify(of, event_type, what),
        lambda: adapter.normalise(of, event_type, body, content_type).call.SerializeToString(),
        lambda: adapter.verify(of, what),
    ):
        with contextlib.suppress(Malformed, Rejected):  # anything else fails the test
            step()


@pytest.mark.parametrize("name", SOURCES)
@given(
    body=st.binary(max_size=200), content_type=st.sampled_from(["application/json", FORM, "", "text/plain"])
)
def test_any_bytes_are_read_or_malformed(name: str, body: bytes, content_type: str) -> None:
    read(name, body, content_type)


@pytest.mark.parametrize("name", SOURCES)
@given(payload=JSON)
def test_any_json_is_read_or_malformed(name: str, payload: Any) -> None:
    read(name, json.dumps(payload).encode(), "application/json")


@pytest.mark.parametrize("name", SOURCES)
@given(
    payload=st.dictionaries(
        NAMES, st.text(max_size=20) | st.sampled_from(["completed", "-1", "1e999", "nan"])
    )
)
def test_any_form_is_read_or_malformed(name: str, payload: dict[str, str]) -> None:
    read(name, urlencode(payload, errors="surrogatepass").encode(), FORM)


@pytest.mark.parametrize("name", SOURCES)
def test_deeply_nested_json_is_malformed_not_a_crash(name: str) -> None:
    read(name, b'{"data":' * 5000 + b"1" + b"}" * 5000, "application/json")


def test_there_is_an_adapter_for_every_provider() -> None:
    for provider in provider_pb2.Provider.values():
        if provider != provider_pb2.PROVIDER_UNSPECIFIED:
            assert adapter_for(provider).identity_headers is not None
    with pytest.raises(LookupError):
        adapter_for(provider_pb2.PROVIDER_UNSPECIFIED)
    assert NOW.tzinfo is not None
