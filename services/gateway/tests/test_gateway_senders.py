"""What real senders send, as they send it: a body, and what it must become. Each row stands for its kind."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
from gateway_deliveries import (
    CALLRAIL,
    FORM,
    GENERIC,
    KEY,
    NOW,
    RECORDING,
    STANDARD,
    TWILIO,
    WHSEC,
    b64,
    callrail,
    delivery,
    generic_options,
    source,
    standard,
    twilio,
)
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway.hooks.headers import kept_of, kept_of_anybody
from trunkline_gateway.providers.base import ANALYSE, FETCH, RECORD, TRANSCRIBE, Facts, Rejected, Secret
from trunkline_gateway.providers.registry import adapter_for

ALL = (FETCH, TRANSCRIBE, ANALYSE, RECORD)
OUT, IN = provider_pb2.DIRECTION_OUTBOUND, provider_pb2.DIRECTION_INBOUND
JSON = "application/json"
CALL = (
    "Called=%2B14045550199&ToState=GA&CallerCountry=US&Direction=inbound&Timestamp=Fri%2C+20+Nov+2026+12%3A00%3A40+%2B0000"
    "&CallbackSource=call-progress-events&CallerState=GA&SequenceNumber=2&CallSid=CA1&To=%2B14045550199&CallerZip=&"
    "CallerName=ANN+SMITH&AccountSid=AC1&From=%2B14045550100&CallDuration=31&Duration=1&ApiVersion=2010-04-01&CallStatus="
)


def facts(event_type: str, body: str | bytes, of: Any = None, content_type: str = FORM) -> Facts:
    of = of or source(TWILIO)
    raw = body if isinstance(body, bytes) else body.encode()
    identity = adapter_for(of.provider).identify(of, event_type, delivery(raw, content_type=content_type))
    stated = adapter_for(of.provider).normalise(of, event_type, raw, content_type)
    assert identity.call_aliases == stated.aliases
    assert identity.event_time == stated.event_time
    return stated


class TestTwilioCalls:
    @pytest.mark.parametrize(
        ("status", "answered", "start"),
        [
            ("initiated", None, "2026-11-20T12:00:40Z"),
            ("ringing", None, "2026-11-20T12:00:40Z"),
            ("in-progress", True, None),
            ("answered", True, None),
            ("completed", True, "2026-11-20T12:00:09Z"),
            ("busy", False, "2026-11-20T12:00:09Z"),
            ("no-answer", False, "2026-11-20T12:00:09Z"),
            ("failed", False, "2026-11-20T12:00:09Z"),
            ("canceled", False, "2026-11-20T12:00:09Z"),
        ],
    )
    def test_a_status_says_who_called_and_how_far_it_came(
        self, status: str, answered: bool | None, start: str | None
    ) -> None:
        stated = facts("call_status", CALL + status)
        call = stated.call
        assert (call.caller_number, call.tracking_number) == ("+14045550100", "+14045550199")
        assert (call.caller_name, call.direction) == ("ANN SMITH", IN)
        assert ("answered" in stated.stated, call.answered) == (answered is not None, bool(answered))
        assert (call.start_time.ToJsonString() if "start_time" in stated.stated else None) == start
        assert (stated.stages, stated.aliases, stated.warnings) == ((RECORD,), ("CA1",), ())

    def test_the_recording_that_names_nobody_is_of_the_same_call(self) -> None:
        recorded = facts("recording_status", urlencode(RECORDING | {"CallSid": "CA1", "AccountSid": "AC1"}))
        status = facts("call_status", CALL + "completed")
        assert recorded.aliases == status.aliases
        assert recorded.call.provider_account == status.call.provider_account
        assert "caller_number" not in recorded.stated

    def test_each_status_is_an_event_of_its_own_and_one_sent_twice_is_one(self) -> None:
        of, adapter = source(TWILIO), adapter_for(TWILIO)
        ids = [
            adapter.identify(of, "call_status", delivery((CALL + status).encode(), content_type=FORM))
            for status in ("ringing", "completed", "completed")
        ]
        assert ids[0].dedup_fields != ids[1].dedup_fields == ids[2].dedup_fields

    def test_an_outbound_calls_customer_is_who_was_called(self) -> None:
        outbound = CALL.replace("Direction=inbound", "Direction=outbound-api")
        call = facts("call_status", outbound + "completed").call
        assert (call.caller_number, call.tracking_number, call.direction) == (
            "+14045550199",
            "+14045550100",
            OUT,
        )

    def test_a_leg_of_a_forwarded_call_makes_no_second_call_and_no_other_caller(self) -> None:
        leg = "CallSid=CA2&ParentCallSid=CA1&From=%2B14045550100&To=%2B14045550111&Direction=outbound-dial&CallStatus="
        rings, answers, missed = (
            facts("call_status", leg + s) for s in ("ringing", "in-progress", "no-answer")
        )
        assert rings.aliases == ("CA1", "CA2")
        assert rings.call.business_number == "+14045550111"
        assert "caller_number" not in rings.stated
        assert answers.call.answered
        assert "answered" not in missed.stated, "of several phones that ring at once most are not answered"

    def test_the_outcome_of_a_dial_says_whether_the_business_answered(self) -> None:
        stated = facts("dial_action", CALL + "in-progress&DialCallStatus=no-answer&DialCallSid=CA9")
        assert ("answered" in stated.stated, stated.call.answered) == (True, False)

    def test_a_status_that_is_new_to_us_is_recorded_with_a_warning(self) -> None:
        stated = facts("call_status", CALL + "teleported")
        assert stated.call.caller_number == "+14045550100"
        assert "CallStatus must be one of" in stated.warnings[0]

    def test_a_status_with_the_recording_of_the_whole_call_fetches_it(self) -> None:
        url = "https://api.twilio.com/2010-04-01/Accounts/AC1/Recordings/RE1"
        recorded = urlencode({"RecordingSid": "RE1", "RecordingDuration": "30", "RecordingUrl": url})
        stated = facts("call_status", CALL + "completed&" + recorded)
        assert stated.stages == ALL
        assert stated.call.caller_number == "+14045550100"


class TestTwilioRecordings:
    ACTION = (
        "CallSid=CA1&AccountSid=AC1&From=%2B14045550100&To=%2B14045550199&CallStatus=in-progress&Direction=inbound&Digits=hangup"
        "&RecordingUrl=https%3A%2F%2Fapi.twilio.com%2F2010-04-01%2FAccounts%2FAC1%2FRecordings%2FRE1&RecordingSid=RE1&RecordingDuration=9"
    )

    @pytest.mark.parametrize("event_type", ["recording_status", "record_action"])
    def test_the_end_of_record_is_a_recording_that_may_not_be_there_yet(self, event_type: str) -> None:
        stated = facts(event_type, self.ACTION)
        assert stated.stages == ALL
        assert stated.recording is not None
        assert stated.recording.key == "RE1", "the same as in the callback that follows"
        assert stated.call.caller_number == "+14045550100"

    def test_a_conference_stands_in_for_the_call_that_is_not_named(self) -> None:
        of_conference = {k: v for k, v in RECORDING.items() if k != "CallSid"} | {"ConferenceSid": "CF1"}
        stated = facts("recording_status", urlencode(of_conference))
        assert (stated.aliases, stated.stages) == (("CF1",), ALL)
        assert stated.lookup is None

    @pytest.mark.parametrize(
        "url",
        [
            "https://bkt.s3.amazonaws.com/AC1/RE1?X-Amz-Signature=x&X-Amz-Expires=60",
            "https://bkt.s3.amazonaws.com/AC1/RE1.wav",
            "https://storage.example.com/api.twilio.com/RE1.mp3?sig=%2F%3D",
            "http://storage.example.com:8080/2010-04-01/Accounts/AC1/Recordings/RE1?x=1",
        ],
    )
    @pytest.mark.parametrize("base", ["", "https://proxy.example.com"])
    def test_a_url_of_the_customers_own_storage_is_used_as_it_is(self, url: str, base: str) -> None:
        stated = facts(
            "recording_status",
            urlencode(RECORDING | {"RecordingUrl": url}),
            source(TWILIO, api_base_url=base),
        )
        assert stated.recording is not None
        assert (stated.recording.url, stated.recording.headers) == (url, {})

    @pytest.mark.parametrize(
        ("options", "pair"),
        [
            ({}, f"AC1:{KEY}"),
            ({"fetch_credential": "token"}, "AC1:token"),
            ({"fetch_credential": "token", "provider_account": "AC0"}, "AC0:token"),
            ({"fetch_credential": "SK77:key-secret", "provider_account": "AC0"}, "SK77:key-secret"),
            ({"secrets": (Secret("parent"), Secret("sub", name="AC1"))}, "AC1:sub"),
            ({"secrets": (Secret("parent"), Secret("sub", name="AC2"))}, "AC1:parent"),
        ],
    )
    def test_what_twilio_is_shown(self, options: dict[str, Any], pair: str) -> None:
        of = dataclasses.replace(source(TWILIO), **options)
        stated = facts("recording_status", urlencode(RECORDING | {"AccountSid": "AC1"}), of)
        assert stated.recording is not None
        shown = stated.recording.headers["Authorization"].removeprefix("Basic ")
        assert base64.b64decode(shown).decode() == pair

    def test_a_caller_that_is_not_named_can_be_looked_up(self) -> None:
        stated = facts("recording_status", urlencode(RECORDING | {"CallSid": "CA1", "AccountSid": "AC1"}))
        assert stated.lookup is not None
        assert stated.lookup.url == "https://api.twilio.com/2010-04-01/Accounts/AC1/Calls/CA1.json"
        assert facts("record_action", self.ACTION).lookup is None, "it names the caller"
        answer = {
            "sid": "CA1", "account_sid": "AC1", "from": "+14045550100", "to": "+14045550199", "caller_name": None,
            "direction": "inbound", "start_time": "Fri, 20 Nov 2026 11:57:00 +0000", "duration": "60",
            "status": "completed",
        }  # fmt: skip
        found = adapter_for(TWILIO).looked_up(source(TWILIO), json.dumps(answer).encode())
        assert (found.call.caller_number, found.call.direction, found.call.answered) == (
            "+14045550100",
            IN,
            True,
        )
        assert found.call.start_time.ToJsonString() == "2026-11-20T11:57:00Z"


class TestMessages:
    MMS = (
        "ToCountry=US&MediaContentType0=image%2Fjpeg&SmsMessageSid=MM1&NumMedia=1&SmsSid=MM1&SmsStatus=received&"
        "Body=My+roof+%F0%9F%8F%A0+leaks&To=%2B14045550199&MessageSid=MM1&AccountSid=AC1&From=%2B14045550100&"
        "MediaUrl0=https%3A%2F%2Fapi.twilio.com%2F2010-04-01%2FAccounts%2FAC1%2FMessages%2FMM1%2FMedia%2FME1"
    )

    def test_a_message_is_a_text_of_the_customer(self) -> None:
        stated = facts("message", self.MMS)
        assert stated.text == "My roof \U0001f3e0 leaks"
        assert stated.stages == (ANALYSE, RECORD)
        assert stated.call.kind == provider_pb2.CONVERSATION_KIND_TEXT_MESSAGE
        assert (stated.call.caller_number, stated.call.direction) == ("+14045550100", IN)
        (media,) = stated.media
        assert (media.content_type, "Authorization" in media.headers) == ("image/jpeg", True)

    def test_pictures_alone_are_kept_without_an_analysis(self) -> None:
        stated = facts("message", self.MMS.replace("My+roof+%F0%9F%8F%A0+leaks", ""))
        assert (stated.stages, len(stated.media)) == ((RECORD,), 1)

    def test_of_a_sent_message_the_customer_is_who_gets_it(self) -> None:
        sent = "MessageSid=SM2&MessageStatus=delivered&From=%2B14045550199&To=%2B14045550100&AccountSid=AC1"
        call = facts("message_status", sent).call
        assert (call.caller_number, call.direction) == ("+14045550100", OUT)

    def test_callrails_media_are_fetched_without_a_credential(self) -> None:
        links = ["https://media.example.com/a.jpg?sig=1,2", "https://media.example.com/b.mp4", "ftp://x", 7]
        message = {"resource_id": "SMT1", "content": "see", "media_urls": links}
        of = source(CALLRAIL, fetch_credential="key", provider_account="1")
        stated = facts("text_message_received", json.dumps(message), of, JSON)
        assert [media.url for media in stated.media] == links[:2]
        assert all(not media.headers for media in stated.media)


class TestForms:
    @pytest.mark.parametrize(
        ("form", "phone", "name", "text"),
        [
            ({"phone": "(404) 555-0100", "message": "quote please"}, "(404) 555-0100", "", "quote please"),
            ({"Your Phone #": "404 555 0100", "Comments": "hi", "Full Name": "Ann"}, "404 555 0100", "Ann", "hi"),
            ({"first_name": "Ann", "last_name": "Smith", "cell": "4045550100", "How can we help?": "leak"},
             "4045550100", "Ann Smith", "leak"),
            ({"phone_type": "mobile", "tel": "404-555-0100", "service": "roof", "zip": "30301"},
             "404-555-0100", "", "phone_type: mobile\nservice: roof\nzip: 30301"),
            ([{"name": "phone", "value": "4045550100"}, {"name": "message", "value": "hi"}], "4045550100", "", "hi"),
            ('{"phone": "4045550100", "message": "as text"}', "4045550100", "", "as text"),
            ({"message": ["roof", "gutter"], "phone": {"a": 1}}, "", "", "roof, gutter"),
            ({}, "", "", ""),
            ("nothing", "", "", ""),
        ],
    )  # fmt: skip
    def test_a_form_gives_a_number_a_name_and_a_text(
        self, form: Any, phone: str, name: str, text: str
    ) -> None:
        payload = {"resource_id": "FRM1", "form_data": form}
        stated = facts("form_submission", json.dumps(payload), source(CALLRAIL), JSON)
        assert (stated.call.caller_number, stated.call.caller_name, stated.text) == (phone, name, text)
        assert stated.stages == ((ANALYSE, RECORD) if text else (RECORD,))
        assert stated.call.kind == provider_pb2.CONVERSATION_KIND_FORM

    def test_the_form_encoded_form_says_the_same(self) -> None:
        body = urlencode({"resource_id": "FRM1", "form_data[phone]": "4045550100", "form_data[message]": "hi",
                          "form_data[email]": "ann@example.com"})  # fmt: skip
        stated = facts("form_submission", body, source(CALLRAIL))
        assert (stated.call.caller_number, stated.call.caller_email, stated.text) == (
            "4045550100", "ann@example.com", "hi",
        )  # fmt: skip

    def test_what_callrail_says_itself_goes_before_the_form(self) -> None:
        payload = {
            "id": 7,
            "customer_phone_number": "+14045550100",
            "form_data": {"phone": "1", "message": "x"},
        }
        assert facts("form_submission", json.dumps(payload), source(CALLRAIL), JSON).call.caller_number == (
            "+14045550100"
        )


ODD = {
    "duration": "1:02", "value": {"amount": 5}, "answered": "N/A", "start_time": "2026-11-20 15:00:00 UTC",
    "tags": {"a": 1}, "note": ["x"], "customer_name": {"first": "A"}, "recording_duration": "n/a",
    "direction": "sideways",
    "voicemail": "maybe", "customer_phone_number": ["+1"], "timestamp": "later",
}  # fmt: skip


@pytest.mark.parametrize("field", ODD)
def test_one_odd_optional_field_is_left_out_and_the_call_recorded(field: str) -> None:
    payload = {"resource_id": "CAL1", "recording": "https://x/y", "source_name": "Ads", field: ODD[field]}
    stated = facts("post_call", json.dumps(payload), source(CALLRAIL), JSON)
    assert stated.stages == ALL
    assert stated.call.marketing_source == "Ads"
    assert field not in stated.stated
    assert [field in warning for warning in stated.warnings] == [True]


def test_all_odd_fields_at_once_are_as_many_warnings() -> None:
    payload = {"resource_id": "CAL1", "recording": "https://x/y", **ODD}
    stated = facts("post_call", json.dumps(payload), source(CALLRAIL), JSON)
    assert len(stated.warnings) == len(ODD)
    assert set(stated.stated) == {"kind"}


@pytest.mark.parametrize(
    "options",
    [{"caller_number": "a", "caller_name": "b", "event_time": "c"}],
)
def test_odd_values_of_a_mapping_are_left_out_too(options: dict[str, str]) -> None:
    mapping = source_pb2.PayloadMapping(kind=source_pb2.PAYLOAD_KIND_RECORD, **options)
    body = json.dumps({"a": {"x": 1}, "b": [1], "c": "never"}).encode()
    of = source(STANDARD, WHSEC, mapping=mapping)
    stated = adapter_for(STANDARD).normalise(of, "x", body, JSON)
    assert stated.stated == ("kind",)
    assert len(stated.warnings) == 3


def test_what_is_too_long_is_cut_with_a_warning() -> None:
    payload = {"id": 1, "note": "x" * 10_001, "tags": [str(n) for n in range(201)]}
    stated = facts("call_modified", json.dumps(payload), source(CALLRAIL), JSON)
    assert (len(stated.call.note), len(stated.call.tags)) == (10_000, 200)
    assert stated.warnings == ("tags was cut to 200 items", "note was cut to 10000 characters")


@pytest.mark.parametrize(
    ("event_type", "payload", "warning"),
    [
        ("post_call", {"tags": ["x" * 257]}, "an item of tags was cut to 256 characters"),
        ("post_call", {"tags": ",".join(["a"] * 300)}, "tags was cut to 200 items"),
        (
            "text_message_received",
            {"content": "x" * 100_001},
            "content was cut to 100000 characters",
        ),
        (
            "text_message_received",
            {"media_urls": [f"https://x/{n}" for n in range(11)]},
            "media_urls was cut to 10 items",
        ),
        (
            "text_message_received",
            {"media_urls": ["https://x/" + "y" * 5000]},
            "an item of media_urls must be at most 4096 characters; it was left out",
        ),
        (
            "form_submission",
            {"form_data": {f"field{n}": "x" for n in range(101)}},
            "form_data was cut to 100 items",
        ),
        (
            "form_submission",
            {"form_data": {f"field{n}": "x" * 9_999 for n in range(20)}},
            "the text of form_data was cut to 100000 characters",
        ),
    ],
)
def test_nothing_is_cut_in_silence(event_type: str, payload: dict[str, Any], warning: str) -> None:
    stated = facts(event_type, json.dumps({"resource_id": "X1", **payload}), source(CALLRAIL), JSON)
    assert stated.warnings == (warning,)


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b'{"id":1,"content":"hi \\ud83d"}', "hi \ufffd"),
        (b'{"id":1,"content":"hi \\ude00 \\ud83d\\ude00"}', "hi \ufffd \U0001f600"),
        (b'\xef\xbb\xbf{"id":1,"content":"hi"}', "hi"),
        (b'\xef\xbb\xbf \n{"id":1,"content":"hi \\udfff"}', "hi \ufffd"),
        (b'{"id":1,"content":"caf\xe9"}', "caf\ufffd"),
        ('{"id":1,"content":"hi"}'.encode("utf-16"), "hi"),
        (b'{"id":1,"content":"hi","value":NaN}', "hi"),
        (b'{"id":1,"content":"hi","x":123456789012345678901234567890}', "hi"),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, FORM, ""])
def test_bytes_of_careless_encoders_are_text(body: bytes, content: str, content_type: str) -> None:
    if content_type != JSON and body[:2] == b"\xff\xfe":
        return  # nothing but its type says that this is JSON
    stated = facts("text_message_received", body, source(CALLRAIL), content_type)
    assert stated.text == content
    stated.call.SerializeToString()


def test_percent_encoded_bytes_that_are_no_text_are_replaced() -> None:
    assert facts("text_message_received", b"id=1&content=caf%E9", source(CALLRAIL)).text == "caf\ufffd"


class TestStandardWebhooks:
    def svix(self, body: bytes) -> Any:
        what = standard(body)
        headers = {name.replace("webhook-", "svix-"): value for name, value in what.headers.items()}
        return dataclasses.replace(what, headers=headers)

    def test_svix_names_the_headers_its_own_way(self) -> None:
        of, adapter = source(STANDARD, WHSEC), adapter_for(STANDARD)
        adapter.verify(of, self.svix(b"{}"))
        assert adapter.identify(of, "x", self.svix(b"{}")).dedup_fields == ("msg_1",)

    @pytest.mark.parametrize(
        "kept", [lambda headers: kept_of(source(STANDARD, WHSEC), headers), kept_of_anybody]
    )
    def test_what_is_kept_of_either_family_verifies_again(self, kept: Any) -> None:
        for what in (standard(b"{}"), self.svix(b"{}")):
            again = dataclasses.replace(what, headers=kept(what.headers))
            adapter_for(STANDARD).verify(source(STANDARD, WHSEC), again)

    def test_an_id_that_was_not_signed_is_not_what_the_event_is_known_by(self) -> None:
        what = self.svix(b"{}")
        forged = dataclasses.replace(what, headers={**what.headers, "webhook-id": "msg_other"})
        with pytest.raises(Rejected):
            adapter_for(STANDARD).verify(source(STANDARD, WHSEC), forged)

    @pytest.mark.parametrize(
        ("secret", "form"),
        [
            ("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==", 0),
            (" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", 0),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", source_pb2.SECRET_FORM_BASE64),
            (base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").hex(), source_pb2.SECRET_FORM_HEX),
        ],
    )
    def test_the_same_secret_however_it_is_written(self, secret: str, form: Any) -> None:
        adapter_for(STANDARD).verify(source(STANDARD, secret, secret_form=form), standard(b"{}"))

    def test_a_text_is_the_key_itself_where_the_source_says_so(self) -> None:
        what = standard(b"{}")
        stamp = what.headers["webhook-timestamp"]
        signature = "v1," + b64(b"just words", f"msg_1.{stamp}.{{}}".encode(), "sha256")
        what = dataclasses.replace(what, headers={**what.headers, "webhook-signature": signature})
        of = source(STANDARD, "just words", secret_form=source_pb2.SECRET_FORM_TEXT)
        adapter_for(STANDARD).verify(of, what)


class TestGeneric:
    STAMP = str(int(NOW.timestamp()))
    BODY = b'{"a":1}'

    def signed(self, content: bytes, algorithm: str = "sha256", key: bytes = KEY.encode()) -> str:
        return hmac.new(key, content, algorithm).hexdigest()

    def verify(self, options: dict[str, Any], **headers: str) -> None:
        of = source(GENERIC, hmac=generic_options(**options))
        adapter_for(GENERIC).verify(of, delivery(self.BODY, **headers))

    STRIPE: ClassVar[dict[str, Any]] = {"prefix": "v1=", "timestamp_part": "t"}

    @pytest.mark.parametrize(
        "written",
        [
            "t={t},v1={s}",
            "t={t},v1={other},v1={s}",
            "v1={s},t={t}",
            "t={t}, v1={S}",
            "t={t};v1={s};v0=abc",
            "t={t} v1={s}",
        ],
    )
    def test_one_header_with_a_time_and_several_signatures(self, written: str) -> None:
        signature = self.signed(self.STAMP.encode() + b"." + self.BODY)
        header = written.format(t=self.STAMP, s=signature, S=signature.upper(), other="0" * 64)
        self.verify(self.STRIPE, x_signature=header)

    @pytest.mark.parametrize(
        "written", ["v1={s}", "t={old},v1={s}", "t={t}", "t={t},v0={s}", "t=,v1={s}", ""]
    )
    def test_without_a_time_or_a_signature_that_fits_it_is_rejected(self, written: str) -> None:
        old = str(int((NOW - timedelta(hours=1)).timestamp()))
        signature = self.signed((old if "old" in written else self.STAMP).encode() + b"." + self.BODY)
        with pytest.raises(Rejected):
            self.verify(self.STRIPE, x_signature=written.format(t=self.STAMP, old=old, s=signature))

    def test_hexadecimal_is_read_in_either_case(self) -> None:
        self.verify({"prefix": "sha256="}, x_signature="sha256=" + self.signed(self.BODY).upper())

    def test_a_prefix_may_hold_a_space(self) -> None:
        self.verify({"prefix": "HMAC-SHA256 "}, x_signature="HMAC-SHA256 " + self.signed(self.BODY))

    @pytest.mark.parametrize("stamp", [STAMP, STAMP + "123"], ids=["seconds", "milliseconds"])
    @pytest.mark.parametrize(
        ("content", "template"),
        [("{t}.{b}", ""), ("v0:{t}:{b}", "v0:{timestamp}:{body}"), ("{b}{t}", "{body}{timestamp}")],
    )
    def test_what_is_signed_is_the_senders_choice(self, stamp: str, content: str, template: str) -> None:
        message = content.format(t=stamp, b=self.BODY.decode()).encode()
        options = {"timestamp_header": "X-Time", "signed_content": template}
        self.verify(options, x_signature=self.signed(message), x_time=stamp)

    def test_a_key_may_be_written_in_base64(self) -> None:
        of = source(
            GENERIC,
            base64.b64encode(b"bytes").decode(),
            hmac=generic_options(),
            secret_form=source_pb2.SECRET_FORM_BASE64,
        )
        adapter_for(GENERIC).verify(of, delivery(self.BODY, x_signature=self.signed(self.BODY, key=b"bytes")))


class TestTwilioSignatures:
    def test_each_of_several_lasting_secrets_verifies(self) -> None:
        of = dataclasses.replace(source(TWILIO), secrets=(Secret("parent"), Secret("sub", name="AC1")))
        for token in ("parent", "sub"):
            adapter_for(TWILIO).verify(of, twilio(RECORDING, token))
        with pytest.raises(Rejected):
            adapter_for(TWILIO).verify(of, twilio(RECORDING, "stranger"))

    def test_repeated_fields_count_once_each(self) -> None:
        url = "https://hooks.example.com/hooks/s-1/x"
        signature = b64(KEY.encode(), (url + "N2N9").encode(), "sha1")
        what = delivery(b"N=9&N=2&N=9", url, x_twilio_signature=signature, content_type=FORM)
        adapter_for(TWILIO).verify(source(TWILIO), what)

    @pytest.mark.parametrize("signed", ["https://hooks.example.com", "https://hooks.example.com:443"])
    @pytest.mark.parametrize("known", ["https://hooks.example.com", "https://hooks.example.com:443"])
    def test_the_usual_port_may_be_written_or_left_out(self, signed: str, known: str) -> None:
        what = twilio(RECORDING, url=f"{signed}/hooks/s-1/x?a=1")
        adapter_for(TWILIO).verify(source(TWILIO), dataclasses.replace(what, url=f"{known}/hooks/s-1/x?a=1"))

    @pytest.mark.parametrize(
        ("signed", "headers"),
        [
            ("https://hooks.example.com", {}),
            ("https://other.example.com", {"host": "other.example.com"}),
            (
                "https://pub.example.com:8443",
                {"host": "10.0.0.1", "x-forwarded-host": "pub.example.com:8443"},
            ),
        ],
    )
    def test_a_rejection_says_under_which_address_it_would_have_fitted(
        self, signed: str, headers: dict[str, str]
    ) -> None:
        what = twilio(RECORDING, url=f"{signed}/hooks/s-1/x")
        here = dataclasses.replace(
            what, url="http://hooks.example.com/hooks/s-1/x", headers={**what.headers, **headers}
        )
        with pytest.raises(Rejected) as rejected:
            adapter_for(TWILIO).verify(source(TWILIO), here)
        assert f"below {signed}: TRUNKLINE_GATEWAY_PUBLIC_URL" in str(rejected.value)

    @pytest.mark.parametrize("host", ["[", "a" * 300, "evil.example.com", "x y", "@:"])
    def test_a_forged_request_gets_no_hint_whatever_it_names(self, host: str) -> None:
        what = twilio(RECORDING, "stranger")
        with pytest.raises(Rejected) as rejected:
            adapter_for(TWILIO).verify(
                source(TWILIO), dataclasses.replace(what, headers={**what.headers, "host": host})
            )
        assert "fits below" not in str(rejected.value)


def test_a_call_without_its_recording_and_the_change_that_brings_it_are_one_call() -> None:
    of = source(CALLRAIL, provider_account="1", fetch_credential="k")
    first = {"resource_id": "CAL1", "recording": None, "timestamp": "2026-11-20T11:00:00Z"}
    later = {**first, "recording": "https://x/y", "recording_duration": 9, "changes": ["recording_duration"]}
    told, brought = (
        facts(kind, json.dumps(payload), of, JSON)
        for kind, payload in (("post_call", first), ("call_modified", later))
    )
    assert (told.stages, brought.stages) == ((RECORD,), ALL)
    assert told.aliases == brought.aliases
    assert told.rank < brought.rank


def test_the_same_event_twice_is_one() -> None:
    of, adapter = source(CALLRAIL), adapter_for(CALLRAIL)
    ids = [
        adapter.identify(of, "post_call", callrail({"id": 7, "timestamp": "2026-11-20T11:00:00Z"}))
        for _ in "ab"
    ]
    assert ids[0] == ids[1]
    assert hashlib.sha256(b"").hexdigest() not in str(ids)
