"""The pipeline with what real senders send: roles, media, looked up callers, final refusals, later received wins."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from gateway_deliveries import FORM, NOW, RECORDING
from gateway_suite import Suite, job
from trunkline.audio.v1 import transcript_pb2
from trunkline.common.v1 import audio_pb2, provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway.pipeline.lookups import Lookups
from trunkline_gateway.pipeline.recordings import channel_speakers
from trunkline_gateway.pipeline.sources import REFUSED, RefusedSources
from trunkline_gateway.providers.base import Lookup, Source
from trunkline_runtime.errors import FailedPrecondition, Unavailable
from trunkline_runtime.language_tags import region_of
from trunkline_runtime.testing import value_of

TWILIO = provider_pb2.PROVIDER_TWILIO
AGENT, CUSTOMER = transcript_pb2.SPEAKER_AGENT, transcript_pb2.SPEAKER_CUSTOMER
IN, OUT = provider_pb2.DIRECTION_INBOUND, provider_pb2.DIRECTION_OUTBOUND
SOURCE = "tenants/acme/sources/s-2"


@pytest.fixture
async def suite() -> AsyncIterator[Suite]:
    async with Suite().serving() as made:
        made.add_source("s-2", TWILIO)
        yield made


async def run(suite: Suite, *jobs: Any, by: tuple[str, ...] = ("done", "dead")) -> None:
    async with suite.worker():
        for one in jobs:
            await suite.jobs.add(one)
            await suite.jobs.finished(one.job_id, by=by)


def form(event: str, fields: dict[str, str], event_type: str) -> Any:
    return job(event, urlencode(fields).encode(), event_type, content_type=FORM, source=SOURCE)


class TestRoles:
    @pytest.mark.parametrize(
        ("roles", "direction", "speakers"),
        [
            ("AGENT_FIRST", IN, (AGENT, CUSTOMER)),
            ("AGENT_FIRST", OUT, (AGENT, CUSTOMER)),
            ("CUSTOMER_FIRST", OUT, (CUSTOMER, AGENT)),
            ("CALLER_FIRST", IN, (CUSTOMER, AGENT)),
            ("CALLER_FIRST", OUT, (AGENT, CUSTOMER)),
            ("CALLER_FIRST", 0, (CUSTOMER, AGENT)),
            ("CALLEE_FIRST", IN, (AGENT, CUSTOMER)),
            ("CALLEE_FIRST", OUT, (CUSTOMER, AGENT)),
        ],
    )
    def test_the_source_and_the_direction_say_who_is_on_which_channel(
        self, roles: str, direction: int, speakers: Any
    ) -> None:
        value = source_pb2.ChannelRoles.Value(f"CHANNEL_ROLES_{roles}")
        of = Source("s", "acme", provider_pb2.PROVIDER_CALLRAIL, (), channel_roles=value)
        assert channel_speakers(of, direction) == speakers

    @pytest.mark.parametrize("direction", [IN, OUT, 0])
    def test_without_roles_a_providers_own_order_holds_whoever_called(self, direction: int) -> None:
        twilio = Source("s", "acme", provider_pb2.PROVIDER_TWILIO, ())
        callrail = Source("s", "acme", provider_pb2.PROVIDER_CALLRAIL, ())
        assert channel_speakers(twilio, direction) == (CUSTOMER, AGENT)
        assert channel_speakers(callrail, direction) == ()

    async def test_the_direction_that_another_event_stated_counts(self, suite: Suite) -> None:
        suite.add_source("s-2", TWILIO, channel_roles=source_pb2.CHANNEL_ROLES_CALLER_FIRST)
        status = {"CallSid": RECORDING["CallSid"], "AccountSid": RECORDING["AccountSid"], "CallStatus": "ringing",
                  "From": "+14045550199", "To": "+14045550100", "Direction": "outbound-api"}  # fmt: skip
        await run(suite, form("e1", status, "call_status"), form("e2", RECORDING, "recording_status"))
        (transcribe,) = suite.script.requests["TranscribeRecording"]
        assert tuple(transcribe.channel_speakers) == (AGENT, CUSTOMER)

    async def test_what_recordings_without_a_header_are_is_passed_on(self, suite: Suite) -> None:
        suite.add_source("s-2", TWILIO, headerless_format=audio_pb2.HEADERLESS_FORMAT_GSM)
        await run(suite, form("e1", RECORDING, "recording_status"))
        (fetch,) = suite.script.requests["FetchRecording"]
        assert fetch.headerless_format == audio_pb2.HEADERLESS_FORMAT_GSM

    async def test_twilios_first_channel_is_the_customers(self, suite: Suite) -> None:
        await run(suite, form("e1", RECORDING, "recording_status"))
        (transcribe,) = suite.script.requests["TranscribeRecording"]
        assert tuple(transcribe.channel_speakers) == (CUSTOMER, AGENT)


@pytest.mark.parametrize(
    ("event_type", "direction"), [("text_message_sent", OUT), ("text_message_received", IN)]
)
async def test_who_wrote_a_text_is_told_to_the_analysis(
    suite: Suite, event_type: str, direction: int
) -> None:
    await run(
        suite,
        job("e1", json.dumps({"resource_id": "SMT1", "content": "Sure, we will call"}).encode(), event_type),
    )
    (asked,) = suite.script.requests["AnalyzeCall"]
    assert asked.direction == direction


class TestTruncated:
    """A webhook that says 17 s, and a transcript of 7.93 s."""

    BODY = json.dumps({"resource_id": "CAL1", "recording": "https://x/y", "recording_duration": 17}).encode()
    CUT = Unavailable("2.5 s", reason="RECORDING_TRUNCATED")
    SAID = "TRUNCATED: the recording has 7.9 s of the 17 s that the webhook states"

    async def test_it_is_fetched_again_then_kept_and_marked_on_event_and_call(self, suite: Suite) -> None:
        suite.script.failures["FetchRecording"] = [self.CUT] * 3
        suite.jobs.again = True
        await run(suite, job("e1", self.BODY, "post_call"))
        asked = suite.script.requests["FetchRecording"]
        assert [request.least_duration.ToMilliseconds() for request in asked] == [14_300, 14_300, 14_300, 0]
        assert suite.jobs.outcomes("e1")[-1] == "done"
        assert list(suite.jobs.reports["e1"][-1].warnings) == [self.SAID]
        (call,) = suite.tenant.calls.values()
        assert list(call.warnings) == [self.SAID]

    async def test_the_mark_stays_when_a_later_stage_is_tried_again(self, suite: Suite) -> None:
        suite.script.failures["AnalyzeCall"] = [Unavailable("busy", reason="X")]
        suite.jobs.again = True
        await run(suite, job("e1", self.BODY, "post_call"))
        assert list(suite.jobs.reports["e1"][-1].warnings) == [self.SAID]

    @pytest.mark.parametrize("seconds", [None, 0, 1, 8, 8.9])
    async def test_one_that_is_as_long_as_was_said_or_nearly_is_not_marked(
        self, suite: Suite, seconds: float | None
    ) -> None:
        body = {"resource_id": "CAL1", "recording": "https://x/y", "recording_duration": seconds}
        await run(suite, job("e1", json.dumps(body).encode(), "post_call"))
        assert not list(suite.jobs.reports["e1"][-1].warnings)
        (call,) = suite.tenant.calls.values()
        assert not call.warnings


class TestMedia:
    MESSAGE = {"resource_id": "SMT1", "content": "see", "media_urls": ["https://m.example.com/a.jpg?sig=1"]}  # noqa: RUF012

    def job(self) -> Any:
        return job("e1", json.dumps(self.MESSAGE).encode(), "text_message_received")

    async def test_a_file_is_kept_and_named_on_the_call(self, suite: Suite) -> None:
        await run(suite, self.job())
        (call,) = suite.tenant.calls.values()
        (media,) = call.media
        assert media.url == "https://m.example.com/a.jpg"
        assert media.recording.startswith("tenants/acme/recordings/r")
        (fetch,) = suite.script.requests["FetchRecording"]
        assert (fetch.attachment, fetch.url) == (True, "https://m.example.com/a.jpg?sig=1")

    @pytest.mark.parametrize("reason", ["RECORDING_GONE", "RECORDING_FORBIDDEN", "RECORDING_TOO_LARGE"])
    async def test_a_file_that_cannot_be_had_is_said_and_costs_nothing_else(
        self, suite: Suite, reason: str
    ) -> None:
        suite.script.failures["FetchRecording"] = [FailedPrecondition("no", reason=reason)]
        await run(suite, self.job())
        (call,) = suite.tenant.calls.values()
        assert suite.jobs.outcomes("e1")[-1] == "done"
        assert (call.media[0].problem, call.media[0].recording, call.summary) == (reason, "", "A roof leaks.")

    async def test_a_file_that_is_late_is_waited_for(self, suite: Suite) -> None:
        suite.script.failures["FetchRecording"] = [Unavailable("no", reason="RECORDING_NOT_READY")]
        suite.jobs.again = True
        await run(suite, self.job())
        assert suite.jobs.outcomes("e1") == ["advance", "wait", "done"]
        (call,) = suite.tenant.calls.values()
        assert (call.media[0].problem, bool(call.media[0].recording)) == ("", True)


class TestLookups:
    async def test_the_caller_whom_nobody_named_is_looked_up(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        async def ask(self: Lookups, lookup: Lookup) -> bytes:
            asked.append(lookup.url)
            return b'{"sid":"CA1","from":"+14045550100","to":"+14045550199","direction":"inbound"}'

        monkeypatch.setattr(Lookups, "ask", ask)
        await run(suite, form("e1", RECORDING, "recording_status"))
        (call,) = suite.tenant.calls.values()
        assert (call.caller_number, call.direction, call.lead_score) == ("+14045550100", IN, 80)
        assert asked == [
            "https://api.twilio.com/2010-04-01/Accounts/AC0123456789abcdef/Calls/CA0123456789abcdef.json"
        ]
        await run(suite, form("e2", {**RECORDING, "RecordingSid": "RE2"}, "recording_status"))
        assert len(asked) == 1, "somebody named the caller"

    @pytest.mark.parametrize("answer", [None, b"", b"[]", b"<html>", b'{"from": {"a": 1}}'])
    async def test_an_answer_that_does_not_come_costs_nothing(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
    ) -> None:
        async def ask(self: Lookups, lookup: Lookup) -> bytes | None:
            return answer

        monkeypatch.setattr(Lookups, "ask", ask)
        await run(suite, form("e1", RECORDING, "recording_status"))
        assert suite.jobs.outcomes("e1")[-1] == "done"

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:1/x",
            "http://api.twilio.com/x",
            "https://api.twilio.com.evil.example.com/x",
            "file:///x",
        ],
    )
    async def test_only_twilio_and_what_an_operator_allows_is_asked(self, url: str) -> None:
        assert await Lookups().ask(Lookup(url, {})) is None
        assert not Lookups()._may_ask(url)
        assert Lookups(("http://127.0.0.1:1",))._may_ask("http://127.0.0.1:1/x")

    async def test_a_host_that_does_not_answer_is_no_answer(self) -> None:
        assert await Lookups(("http://127.0.0.1:1",)).ask(Lookup("http://127.0.0.1:1/x", {})) is None


async def test_a_refusal_for_good_is_recorded_and_not_asked_again(suite: Suite) -> None:
    suite.ai.degraded, suite.ai.final = 9, True
    await run(suite, form("e1", RECORDING, "recording_status"))
    assert suite.jobs.outcomes("e1") == ["done"]
    assert len(suite.script.requests["AnalyzeCall"]) == 1
    (call,) = suite.tenant.calls.values()
    assert call.degraded


async def test_the_time_of_receipt_and_the_region_go_along(suite: Suite) -> None:
    await run(suite, form("e1", {"MessageSid": "SM1", "From": "4045550100", "AccountSid": "AC1"}, "message"))
    (record,) = suite.script.requests["RecordCall"]
    assert record.receive_time.ToDatetime(NOW.tzinfo) == NOW
    assert record.region == "US"


@pytest.mark.parametrize(
    ("language", "region"),
    [("en-US", "US"), ("en", ""), ("", ""), ("zh-Hant-TW", "TW"), ("de-at", "AT"), ("es-419", "")],
)
def test_a_language_names_a_region(language: str, region: str) -> None:
    assert region_of(language) == region


def test_a_source_that_is_no_longer_waited_for_is_forgotten() -> None:
    seconds = [0.0]
    refusals = RefusedSources(lambda: seconds[0])
    refusals.refused("tenants/acme/sources/a")
    refusals.refused("tenants/acme/sources/b")
    assert value_of(REFUSED) == 2
    seconds[0] = 4000.0
    refusals.refused("tenants/acme/sources/c")
    assert value_of(REFUSED) == 1
    refusals.answered("tenants/acme/sources/c")
    assert value_of(REFUSED) == 0
    refusals.refused("tenants/acme/sources/d")
    seconds[0] = 8000.0
    assert value_of(REFUSED) == 0, "nobody has asked for it any more"
