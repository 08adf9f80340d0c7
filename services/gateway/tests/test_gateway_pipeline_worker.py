"""The worker against real servicers: every way a job can go, and that nothing known is lost on any of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from gateway_deliveries import NOW
from gateway_suite import PATIENCE, Suite, job
from trunkline.common.v1 import analysis_settings_pb2, labels_pb2, provider_pb2, speech_pb2
from trunkline.tenant.v1 import call_pb2, source_pb2
from trunkline_gateway.pipeline.sources import REFUSED
from trunkline_gateway.providers.base import Facts
from trunkline_gateway.providers.callrail.adapter import CallRail
from trunkline_runtime.breakers import STATE
from trunkline_runtime.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from trunkline_runtime.testing import KEY_FOLDER, value_of

CALL = {
    "resource_id": "CAL1",
    "customer_phone_number": "+15550100",
    "recording": "https://app.callrail.com/x",
    "recording_duration": 8,
    "voicemail": True,
    "timestamp": "2026-11-20T11:00:00Z",
}
BODY = json.dumps(CALL).encode()
NAME = "tenants/acme/calls/cal1"
FETCHING, DONE = call_pb2.CALL_STATE_FETCHING, call_pb2.CALL_STATE_DONE
GONE = FailedPrecondition("it is gone", reason="RECORDING_GONE")
NOT_READY = Unavailable("the provider has none yet", reason="RECORDING_NOT_READY")


def body(**change: Any) -> bytes:
    return json.dumps({**CALL, **change}).encode()


@pytest.fixture
async def suite() -> AsyncIterator[Suite]:
    async with Suite().serving() as made:
        yield made


def asked(suite: Suite, method: str) -> list[Any]:
    return suite.script.requests[method]


class TestTheWay:
    async def test_a_call_goes_from_payload_to_a_recorded_analysis(self, suite: Suite) -> None:
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["done"]
        report = suite.jobs.reports["e1"][-1]
        assert report.done.call == NAME
        assert set(report.checkpoint) == {"normalise", "fetch_recording", "transcribe", "analyse", "record"}
        call = suite.tenant.calls[NAME]
        assert call.caller_number == "+15550100"
        assert call.opening_words == "hello my roof leaks badly"
        assert call.intent == labels_pb2.INTENT_QUOTE_REQUEST
        assert (call.lead_score, call.speakers, call.summary) == (80, 2, "A roof leaks.")
        assert call.outcome == labels_pb2.CALL_OUTCOME_BOOKED
        assert (list(call.labels), list(call.keywords)) == (["financing"], ["leak", "roof"])
        assert call.recording_duration.ToMilliseconds() == 7930
        assert call.analyze_time.ToDatetime(NOW.tzinfo) == NOW
        assert (call.recording, call.transcript) == (
            report.checkpoint["fetch_recording"],
            report.checkpoint["transcribe"],
        )
        (fetch,) = asked(suite, "FetchRecording")
        assert fetch.url == "https://api.callrail.com/v3/a/227799611/calls/CAL1/recording.json"
        assert dict(fetch.headers) == {"Authorization": 'Token token="key-1"'}
        assert (fetch.url_field, fetch.call) == ("url", NAME)
        (analyse,) = asked(suite, "AnalyzeCall")
        assert analyse.voicemail
        assert len(analyse.transcript.segments) == 2
        first, second = asked(suite, "RecordCall")
        assert (first.event, first.rank) == (second.event, second.rank) == ("tenants/acme/events/e1", 30)
        assert first.event_time == second.event_time
        assert first.event_time.ToJsonString() == "2026-11-20T11:00:00Z"
        assert len(asked(suite, "ReportJobs")) == 1
        stages = ["normalise", "fetch_recording", "transcribe", "analyse", "record"]
        assert [run.stage for run in report.passed] == stages, "the whole story in the one report"
        for run, following in itertools.pairwise(report.passed):
            assert run.start_time.ToNanoseconds() <= run.end_time.ToNanoseconds()
            assert run.end_time.ToNanoseconds() <= following.start_time.ToNanoseconds()
        assert (first.call.state, second.call.state) == (FETCHING, DONE)
        assert second.call.state_sequence > first.call.state_sequence > 0
        assert not asked(suite, "RecordCallState"), "nothing more is asked for it"

    async def test_a_long_body_is_read_beside_the_loop(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads: dict[str, threading.Thread] = {}
        normalise = CallRail.normalise

        def watched(self: CallRail, source: Any, event_type: str, payload: bytes, content_type: str) -> Facts:
            threads["long" if len(payload) > 100_000 else "short"] = threading.current_thread()
            return normalise(self, source, event_type, payload, content_type)

        monkeypatch.setattr(CallRail, "normalise", watched)
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
            await suite.jobs.add(job("e2", body=body(note="n" * 200_000)))
            await suite.jobs.finished("e2")
        assert threads["short"] is threading.current_thread()
        assert threads["long"] is not threading.current_thread(), "the leases of others are kept on the loop"

    async def test_a_stage_that_lasts_is_told_to_the_call(self, suite: Suite) -> None:
        release = suite.script.hold("TranscribeRecording")
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.script.seen("RecordCallState")
            assert suite.tenant.calls[NAME].state == call_pb2.CALL_STATE_TRANSCRIBING
            release.set()
            await suite.jobs.finished("e1")
        assert suite.tenant.calls[NAME].state == DONE

    async def test_a_dead_letter_is_told_to_the_call_first(self, suite: Suite) -> None:
        suite.script.failures["FetchRecording"] = [GONE]
        suite.script.failures["RecordCallState"] = [Unavailable("not now")] * 9
        async with suite.worker(breaker_failures=100):
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1", by=("wait", "dead"))
        report = suite.jobs.reports["e1"][-1]
        assert "RECORDING_GONE" in report.wait.reason, "nobody could be told"

    async def test_a_stage_that_fails_in_its_second_part_is_one_attempt(self, suite: Suite) -> None:
        suite.script.failures["RecordCall"] = [InvalidArgument("call", "is bad")]
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        (report,) = suite.jobs.reports["e1"]
        assert (report.stage, report.WhichOneof("outcome"), list(report.passed)) == ("normalise", "dead", [])
        assert report.start_time.ToNanoseconds() < report.end_time.ToNanoseconds()

    async def test_a_degraded_analysis_waits_after_all_its_stages(self, suite: Suite) -> None:
        suite.ai.degraded = True
        async with suite.worker(degraded_retry_seconds=60):
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1", by=("wait",))
        *moved, report = suite.jobs.reports["e1"]
        stages = [run.stage for one in (*moved, report) for run in one.passed]
        assert stages == ["normalise", "fetch_recording", "transcribe", "analyse", "record"]
        assert report.WhichOneof("outcome") == "wait"

    async def test_a_failed_call_says_why(self, suite: Suite) -> None:
        suite.script.failures["FetchRecording"] = [GONE]
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1")[-1] == "dead"
        call = suite.tenant.calls[NAME]
        assert call.state == call_pb2.CALL_STATE_FAILED
        assert call.state_reason == "RECORDING_GONE: it is gone"

    @pytest.mark.parametrize(
        ("event_type", "change", "state"),
        [
            ("pre_call", {}, "RECEIVED"),
            ("post_call", {"recording": None, "recording_duration": None, "duration": "12"}, "NO_RECORDING"),
        ],
    )
    async def test_a_call_without_a_recording_says_whether_one_may_come(
        self, suite: Suite, event_type: str, change: dict[str, Any], state: str
    ) -> None:
        async with suite.worker():
            await suite.jobs.add(job(body=body(**change), event_type=event_type))
            await suite.jobs.finished("e1")
        (record,) = asked(suite, "RecordCall")
        assert call_pb2.CallState.Name(record.call.state) == f"CALL_STATE_{state}"
        assert record.call.state_sequence == 0, "it gives way to an event that has stages"

    async def test_facts_are_in_the_list_while_the_recording_is_still_fetched(self, suite: Suite) -> None:
        release = suite.script.hold("FetchRecording")
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.script.seen("FetchRecording")
            assert suite.tenant.calls[NAME].caller_number == "+15550100"
            release.set()
            await suite.jobs.finished("e1")

    async def test_an_event_without_sound_is_one_record(self, suite: Suite) -> None:
        async with suite.worker():
            await suite.jobs.add(job(body=BODY, event_type="pre_call"))
            await suite.jobs.finished("e1")
        assert len(asked(suite, "RecordCall")) == 1
        assert not asked(suite, "FetchRecording")
        assert suite.jobs.reports["e1"][-1].done.call == NAME

    async def test_a_text_is_analysed_by_its_words(self, suite: Suite) -> None:
        text = json.dumps({"resource_id": "SMT1", "source_number": "+1555", "content": "My roof leaks " * 40})
        async with suite.worker():
            await suite.jobs.add(job(body=text.encode(), event_type="text_message_received"))
            await suite.jobs.finished("e1")
        (analyse,) = asked(suite, "AnalyzeCall")
        assert analyse.text.startswith("My roof leaks")
        call = suite.tenant.calls["tenants/acme/calls/smt1"]
        assert call.kind == provider_pb2.CONVERSATION_KIND_TEXT_MESSAGE
        assert len(call.opening_words) == 200
        assert not call.transcript

    async def test_a_transcript_that_cannot_be_relied_on_goes_on_and_says_so(self, suite: Suite) -> None:
        suite.audio.unreliable_reason, suite.audio.segments = "low_confidence", []
        suite.ai.unreliable_reason = "not_understood"
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["done"]
        call = suite.tenant.calls[NAME]
        assert (call.unreliable, call.unreliable_reason) == (True, "low_confidence")
        assert call.opening_words == ""

    async def test_a_call_in_a_language_that_is_not_analysed_keeps_its_words_and_says_so(
        self, suite: Suite
    ) -> None:
        suite.audio.language, suite.audio.segments = "es", ["¿Cuánto cuesta?"]
        suite.ai.unreliable_reason = "language_not_analysed"
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        call = suite.tenant.calls[NAME]
        assert (call.unreliable, call.unreliable_reason) == (True, "language_not_analysed")
        assert (call.language, call.opening_words) == ("es", "¿Cuánto cuesta?")
        assert call.transcript

    async def test_a_call_that_was_understood_has_no_reason_any_more(self, suite: Suite) -> None:
        suite.ai.unreliable_reason = "not_understood"
        async with suite.worker():
            await suite.jobs.add(job("e1", BODY))
            await suite.jobs.finished("e1")
            suite.ai.unreliable_reason = ""
            await suite.jobs.add(job("e2", BODY, generation=1))
            await suite.jobs.finished("e2")
        call = suite.tenant.calls[NAME]
        assert (call.unreliable, call.unreliable_reason, call.language) == (False, "", "en-US")

    @pytest.mark.parametrize("language", ["", "es-US"])
    async def test_the_sources_language_is_a_hint_and_none_is_made_up(
        self, suite: Suite, language: str
    ) -> None:
        suite.add_source("s-1", provider_pb2.PROVIDER_CALLRAIL, language=language)
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        (transcribe,) = asked(suite, "TranscribeRecording")
        assert transcribe.language == language

    async def test_a_sender_without_call_ids_gets_a_call_an_event(self, suite: Suite) -> None:
        mapping = source_pb2.PayloadMapping(kind=source_pb2.PAYLOAD_KIND_RECORD, caller_number="from")
        suite.add_source("s-2", provider_pb2.PROVIDER_STANDARD_WEBHOOKS, mapping=mapping)
        async with suite.worker():
            await suite.jobs.add(job("e9", b'{"from": "+1555"}', "x", source="tenants/acme/sources/s-2"))
            await suite.jobs.finished("e9")
        (record,) = asked(suite, "RecordCall")
        assert (list(record.aliases), record.call.provider_call_id) == (["e9"], "e9")
        assert record.event_time.ToDatetime(NOW.tzinfo) == NOW

    async def test_an_event_that_is_about_no_call_is_done(self, suite: Suite) -> None:
        suite.add_source("s-2", provider_pb2.PROVIDER_GENERIC_HMAC)
        async with suite.worker():
            await suite.jobs.add(job("e9", b"x", "x", source="tenants/acme/sources/s-2"))
            await suite.jobs.finished("e9")
        assert suite.jobs.outcomes("e9") == ["done"]
        assert not asked(suite, "RecordCall")

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
    async def test_events_of_one_call_make_one_row_in_any_order(
        self, suite: Suite, order: tuple[int, ...]
    ) -> None:
        jobs = [
            job("e1", body(recording=None, recording_duration=0, voicemail=False), "pre_call"),
            job("e2", BODY, "post_call"),
            job("e3", body(note="call back", changes=["note"]), "call_modified"),
        ]
        async with suite.worker():
            for place in order:
                await suite.jobs.add(jobs[place])
                await suite.jobs.finished(jobs[place].job_id)
        (call,) = suite.tenant.calls.values()
        assert (call.note, call.voicemail, call.lead_score) == ("call back", True, 80)
        assert call.recording_duration.ToMilliseconds() == 7930
        assert len(asked(suite, "FetchRecording")) == 1


class TestFailures:
    async def test_a_recording_that_is_not_ready_waits_without_spending_an_attempt(
        self, suite: Suite
    ) -> None:
        suite.script.failures["FetchRecording"] = [NOT_READY, NOT_READY]
        suite.jobs.again = True
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", "wait", "wait", "done"]
        advance, wait, *_ = suite.jobs.reports["e1"]
        assert advance.advance.next_stage == wait.stage == "fetch_recording"
        assert 10 <= wait.wait.delay.seconds <= 20
        assert wait.wait.reason.startswith("RECORDING_NOT_READY")
        assert suite.jobs.jobs["e1"].attempts == 1

    async def test_after_a_day_it_is_a_dead_letter_and_the_facts_stand(self, suite: Suite) -> None:
        suite.script.failures["FetchRecording"] = [NOT_READY]
        late = job(body=BODY, stage="fetch_recording")
        late.stage_start_time.FromDatetime(NOW - timedelta(days=2000))
        async with suite.worker():
            await suite.jobs.add(late)
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["dead"]
        assert "RECORDING_NOT_READY" in suite.jobs.reports["e1"][-1].dead.error
        assert suite.tenant.calls[NAME].caller_number == "+15550100"

    async def test_a_recording_without_bytes_is_waited_for_and_then_nobody_spoke(self, suite: Suite) -> None:
        empty = Unavailable("the answer was empty", reason="RECORDING_EMPTY")
        late = job("e2", body=BODY, stage="fetch_recording")
        late.stage_start_time.FromDatetime(NOW - timedelta(days=2))
        async with suite.worker():
            suite.script.failures["FetchRecording"] = [empty]
            await suite.jobs.add(late)
            await suite.jobs.finished("e2")
            recorded = call_pb2.Call()
            recorded.CopyFrom(suite.tenant.calls[NAME])
            suite.script.failures["FetchRecording"] = [empty]
            suite.jobs.again = True
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", "wait", "done"], "it was there in time"
        assert suite.jobs.outcomes("e2")[-1] == "done"
        assert any("RECORDING_EMPTY" in said for said in suite.jobs.reports["e2"][-1].warnings)
        call = recorded
        assert call.warnings == ["RECORDING_EMPTY: the provider's recording has no bytes"]
        assert call.state == call_pb2.CALL_STATE_DONE
        assert call.analysis
        assert (call.recording, call.transcript) == ("", "")

    @pytest.mark.parametrize(
        "reason", ["RECORDING_GONE", "NOT_AUDIO", "RECORDING_TOO_LARGE", "ADDRESS_REFUSED"]
    )
    async def test_a_recording_that_never_comes_is_a_dead_letter_with_the_facts_recorded(
        self, suite: Suite, reason: str
    ) -> None:
        suite.script.failures["FetchRecording"] = [FailedPrecondition("it is not there", reason=reason)]
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", "dead"]
        assert suite.jobs.reports["e1"][-1].dead.error == f"{reason}: it is not there"
        assert suite.jobs.jobs["e1"].checkpoint["normalise"] == NAME
        assert suite.tenant.calls[NAME].voicemail

    async def test_a_source_that_cannot_fetch_says_why(self, suite: Suite) -> None:
        suite.tenant.sources["s-1"].source.provider_account = ""
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert "provider_account" in suite.jobs.reports["e1"][-1].dead.error
        assert suite.tenant.calls

    async def test_a_malformed_payload_is_a_dead_letter_that_names_the_field(self, suite: Suite) -> None:
        async with suite.worker():
            await suite.jobs.add(job(body=body(resource_id="private words")))
            await suite.jobs.finished("e1")
        error = suite.jobs.reports["e1"][-1].dead.error
        assert "resource_id must be" in error
        assert "private" not in error

    async def test_an_odd_optional_field_is_left_out_with_a_warning(self, suite: Suite) -> None:
        async with suite.worker():
            await suite.jobs.add(job(body=body(duration="private words")))
            await suite.jobs.finished("e1")
        report = suite.jobs.reports["e1"][-1]
        assert report.done.call == NAME
        assert list(report.warnings) == ["duration must be seconds from 0 to 2678400; it was left out"]
        assert not suite.tenant.calls[NAME].HasField("duration")

    async def test_a_source_that_is_gone_is_a_dead_letter(self, suite: Suite) -> None:
        suite.script.failures["ResolveSource"] = [NotFound("tenants/acme/sources/s-1")]
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["dead"]

    async def test_a_short_outage_is_not_even_reported(self, suite: Suite) -> None:
        suite.script.failures["AnalyzeCall"] = [Unavailable("restarting")]
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["done"]
        assert len(asked(suite, "AnalyzeCall")) == 2

    async def test_a_degraded_answer_is_recorded_and_the_job_goes_on_in_the_background(
        self, suite: Suite
    ) -> None:
        suite.ai.degraded = 2
        suite.jobs.again = True
        async with suite.worker(degraded_retry_seconds=2.0):
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", "wait", "wait", "done"]
        waits = [r.wait for r in suite.jobs.reports["e1"] if r.HasField("wait")]
        assert all(wait.background and 1.5 <= wait.delay.ToMilliseconds() / 1000 <= 2.5 for wait in waits)
        results = [r.call.degraded for r in asked(suite, "RecordCall") if r.call.analysis]
        assert results == [True, True, False]
        assert len(asked(suite, "FetchRecording")) == 1, "what was made is not made again"

    async def test_a_degraded_answer_that_nobody_makes_better_is_done_in_the_end(self, suite: Suite) -> None:
        suite.ai.degraded = 99
        suite.jobs.again = True
        async with suite.worker(degraded_retry_seconds=2.0, recording_wait_seconds=0.0):
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1")[-1] == "done"
        assert suite.tenant.calls[NAME].state != call_pb2.CALL_STATE_FAILED

    async def test_what_is_recorded_is_no_dead_letter_when_a_later_look_fails(self, suite: Suite) -> None:
        suite.ai.degraded = 99
        suite.jobs.again = True
        suite.script.failures["AnalyzeCall"] = [None, InvalidArgument("text", "is odd")]
        async with suite.worker(degraded_retry_seconds=2.0):
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1")[-1] == "done"

    async def test_a_degraded_transcript_is_recorded_and_looked_for_again(self, suite: Suite) -> None:
        suite.audio.degraded = 2
        suite.jobs.again = True
        async with suite.worker(degraded_retry_seconds=2.0):
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", "wait", "wait", "done"]
        reasons = [r.wait.reason for r in suite.jobs.reports["e1"] if r.HasField("wait")]
        assert all(reason.startswith("TRANSCRIPT_DEGRADED: ") for reason in reasons)
        results = [r.call.degraded for r in asked(suite, "RecordCall") if r.call.analysis]
        assert results == [True, True, False]

    async def test_an_engine_that_the_tenant_chose_and_is_not_there_is_waited_for(self, suite: Suite) -> None:
        suite.script.failures["TranscribeRecording"] = [
            InvalidArgument("engine", "must be one of whisper", reason="ENGINE_UNKNOWN")
        ]
        suite.jobs.again = True
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", "wait", "done"]

    async def test_a_tenants_speech_settings_go_with_the_request(self, suite: Suite) -> None:
        speech = speech_pb2.SpeechSettings(engine="google", phrases=["Cedar Lane"])
        suite.tenant.sources["s-1"].speech_settings.CopyFrom(speech)
        for seconds in (0, 30):
            suite.audio.seconds = seconds
            async with suite.worker():
                await suite.jobs.add(job(f"e{seconds}", body=BODY))
                await suite.jobs.finished(f"e{seconds}")
        for (request,) in (asked(suite, "TranscribeRecording"), asked(suite, "CreateTranscript")):
            assert (request.engine, list(request.phrases)) == ("google", ["Cedar Lane"])

    @pytest.mark.parametrize("stored", [True, False])
    async def test_what_a_tenant_wants_of_personal_data_goes_with_the_request(
        self, suite: Suite, stored: bool
    ) -> None:
        kinds = [analysis_settings_pb2.PII_KIND_PHONE, analysis_settings_pb2.PII_KIND_CARD]
        wanted = analysis_settings_pb2.Redaction(
            stored_transcripts=stored, kinds=kinds, keep_placeholders=True
        )
        suite.tenant.sources["s-1"].analysis_settings.redaction.CopyFrom(wanted)
        for seconds in (0, 30):
            suite.audio.seconds = seconds
            async with suite.worker():
                await suite.jobs.add(job(f"e{seconds}", body=BODY))
                await suite.jobs.finished(f"e{seconds}")
        for (request,) in (asked(suite, "TranscribeRecording"), asked(suite, "CreateTranscript")):
            assert request.HasField("redaction") == stored
            told = analysis_settings_pb2.Redaction(stored_transcripts=True, kinds=sorted(kinds))
            assert not stored or request.redaction == told

    async def test_a_bug_elsewhere_is_retried_and_then_given_up(self, suite: Suite) -> None:
        suite.script.failures["AnalyzeCall"] = [Internal()] * 50
        suite.jobs.again = True
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", *["retry"] * 7, "dead"]
        delays = [r.retry.delay.ToMilliseconds() for r in suite.jobs.reports["e1"] if r.HasField("retry")]
        assert delays[0] <= 3_000 < delays[4]
        assert suite.jobs.reports["e1"][-1].dead.error.startswith("given up after 8 attempts: INTERNAL")

    async def test_busy_engines_are_waited_for_as_long_as_they_ask(self, suite: Suite) -> None:
        busy = ResourceExhausted("busy", retry_after=4.0, reason="ENGINES_BUSY")
        suite.script.failures["TranscribeRecording"] = [busy]
        suite.jobs.again = True
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", "wait", "done"]
        assert 4 <= suite.jobs.reports["e1"][1].wait.delay.seconds <= 6

    async def test_a_speech_engine_without_its_model_holds_up_transcripts_alone(self, suite: Suite) -> None:
        missing = Unavailable("no model", retry_after=1.0, reason="ENGINE_NOT_READY")
        suite.script.failures["TranscribeRecording"] = [missing] * 8
        suite.jobs.again = True
        async with suite.worker(breaker_failures=2, breaker_seconds=60.0):
            await suite.jobs.add(job("e1", BODY))
            await suite.script.seen("TranscribeRecording", 6)
            assert value_of(STATE.labels("audio")) == 0
            await suite.jobs.add(job("e2", body(resource_id="CAL2")))
            await suite.script.seen("FetchRecording", 2)
            await suite.jobs.finished("e1", "e2")
        for name in ("e1", "e2"):
            outcomes = suite.jobs.outcomes(name)
            assert outcomes[-1] == "done"
            assert set(outcomes) <= {"advance", "wait", "done"}
            assert suite.jobs.jobs[name].attempts == 1
        waits = [r for r in suite.jobs.reports["e1"] if r.HasField("wait")]
        assert all(r.stage == "transcribe" for r in waits)
        assert all(r.wait.reason.startswith("ENGINE_NOT_READY: no model") for r in waits)
        assert len(asked(suite, "TranscribeRecording")) == 10, "none was asked again within its run"

    async def test_a_service_that_is_out_is_left_alone_and_tried_again(self, suite: Suite) -> None:
        suite.script.failures["AnalyzeCall"] = [Unavailable("out")] * 3
        suite.jobs.again = True
        async with suite.worker(breaker_failures=2, breaker_seconds=0.3):
            await suite.jobs.add(job(body=BODY))
            await suite.script.until(lambda: "wait" in suite.jobs.outcomes("e1"))
            assert value_of(STATE.labels("ai")) == 2
            await suite.jobs.finished("e1")
            assert value_of(STATE.labels("ai")) == 0
        outcomes = suite.jobs.outcomes("e1")
        assert "retry" not in outcomes
        assert outcomes[-1] == "done"
        assert len(asked(suite, "AnalyzeCall")) == 4
        assert any(r.wait.reason.startswith("CIRCUIT_OPEN") for r in suite.jobs.reports["e1"])

    async def test_a_refused_credential_is_asked_for_anew_until_it_is_taken(self, suite: Suite) -> None:
        refused = FailedPrecondition("the provider answered 401", reason="RECORDING_FORBIDDEN")
        suite.script.failures["FetchRecording"] = [refused, refused]
        suite.jobs.again = True
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["advance", "wait", "wait", "done"]
        wait = suite.jobs.reports["e1"][1].wait
        assert wait.reason.startswith("RECORDING_FORBIDDEN")
        assert wait.delay.seconds <= 7
        assert len(asked(suite, "ResolveSource")) == 3
        assert value_of(REFUSED) == 0

    async def test_many_calls_that_wait_for_one_credential_are_one_alert(self, suite: Suite) -> None:
        refused = FailedPrecondition("the provider answered 401", reason="RECORDING_FORBIDDEN")
        suite.script.failures["FetchRecording"] = [refused] * 5
        async with suite.worker():
            await suite.jobs.add(*(job(f"e{n}", body(resource_id=f"CAL{n}")) for n in range(5)))
            await suite.jobs.finished(*(f"e{n}" for n in range(5)), by=("wait",))
        assert value_of(REFUSED) == 1

    async def test_sources_are_asked_for_once_for_many_jobs(self, suite: Suite) -> None:
        async with suite.worker():
            await suite.jobs.add(*(job(f"e{n}", BODY, "pre_call") for n in range(30)))
            await suite.jobs.finished(*(f"e{n}" for n in range(30)))
        assert len(asked(suite, "ResolveSource")) == 1


class TestLeases:
    async def test_work_stops_when_the_lease_is_lost(self, suite: Suite) -> None:
        suite.script.hold("FetchRecording")
        async with suite.worker(lease_seconds=1.0):
            await suite.jobs.add(job(body=BODY))
            await suite.script.seen("FetchRecording")
            suite.jobs.lost.add("e1")
            renewals = len(asked(suite, "RenewLeases"))
            await suite.script.seen("RenewLeases", renewals + 1)
            await suite.jobs.add(job("e2", BODY, "pre_call"))
            await suite.jobs.finished("e2")
        assert not suite.jobs.reports["e1"]
        assert not asked(suite, "TranscribeRecording")

    async def test_work_stops_when_the_lease_cannot_be_renewed(self, suite: Suite) -> None:
        suite.script.hold("FetchRecording")
        suite.script.failures["RenewLeases"] = [Unavailable("out")] * 100
        async with suite.worker(lease_seconds=1.0, drain_seconds=30.0) as worker:
            await suite.jobs.add(job(body=BODY))
            await suite.script.seen("FetchRecording")
            await suite.script.seen("RenewLeases")
            # A drain of 30 s ends that soon only because nothing is worked on any more.
            worker.stop.set()  # type: ignore[attr-defined]
            await asyncio.wait_for(worker, 5)
        assert not suite.jobs.reports["e1"]

    async def test_leases_are_renewed_while_work_goes_on(self, suite: Suite) -> None:
        release = suite.script.hold("TranscribeRecording")
        async with suite.worker(lease_seconds=1.5):
            await suite.jobs.add(job(body=BODY))
            await suite.script.seen("RenewLeases", 4)
            release.set()
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["done"]

    async def test_a_stage_that_lingers_is_told_while_it_runs(self, suite: Suite) -> None:
        release = suite.script.hold("TranscribeRecording")
        async with suite.worker(checkpoint_after_seconds=0.05):
            await suite.jobs.add(job(body=BODY))
            await suite.script.until(lambda: suite.jobs.jobs["e1"].stage == "transcribe")
            assert set(suite.jobs.jobs["e1"].checkpoint) == {"normalise", "fetch_recording"}
            release.set()
            await suite.jobs.finished("e1")

    async def test_a_report_that_is_refused_takes_no_other_along(self, suite: Suite) -> None:
        suite.script.failures["ReportJobs"] = [InvalidArgument("reports", "one is wrong")]
        async with suite.worker():
            await suite.jobs.add(*(job(f"e{n}", BODY, "pre_call") for n in range(5)))
            await suite.script.until(lambda: sum(map(bool, suite.jobs.reports.values())) >= 4)

    async def test_reports_wait_for_a_gateway_that_is_out(self, suite: Suite) -> None:
        suite.script.failures["ReportJobs"] = [Unavailable("out")] * 2
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert suite.jobs.outcomes("e1") == ["done"]

    async def test_many_jobs_share_reports_and_claims(self, suite: Suite) -> None:
        release = suite.script.hold("ReportJobs")
        async with suite.worker(worker_concurrency=50):
            await suite.jobs.add(*(job(f"e{n}", BODY, "pre_call") for n in range(40)))
            await suite.script.seen("RecordCall", 40)
            release.set()
            await suite.jobs.finished(*(f"e{n}" for n in range(40)))
        assert len(asked(suite, "ReportJobs")) <= 5
        assert len(asked(suite, "ClaimJobs")) <= 5

    async def test_a_gateway_that_stops_is_not_asked_in_a_tight_loop(self, suite: Suite) -> None:
        suite.jobs.stopping = True
        async with suite.worker():
            await suite.script.seen("ClaimJobs", 3)
            claims = len(asked(suite, "ClaimJobs"))
            suite.jobs.stopping = False
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert claims == 3
        assert len(asked(suite, "ClaimJobs")) <= 6

    async def test_no_more_jobs_are_worked_on_than_allowed_and_claims_go_on(self, suite: Suite) -> None:
        release = suite.script.hold("RecordCall")
        async with suite.worker(worker_concurrency=3):
            await suite.jobs.add(job("e0", BODY, "pre_call"))
            await suite.script.seen("RecordCall", 1)
            await suite.jobs.add(*(job(f"e{n}", BODY, "pre_call") for n in range(1, 8)))
            await suite.script.seen("RecordCall", 3)
            await suite.script.seen("ClaimJobs", 3)
            assert {(r.limit, r.slots) for r in asked(suite, "ClaimJobs")} == {(3, 3)}
            assert len(suite.jobs.leased) == len(asked(suite, "RecordCall")) == 3
            release.set()
            await suite.jobs.finished(*(f"e{n}" for n in range(8)))


class TestCrashes:
    @pytest.mark.parametrize(
        ("method", "times"),
        [
            ("RecordCall", 1),
            ("FetchRecording", 1),
            ("TranscribeRecording", 1),
            ("AnalyzeCall", 1),
            ("RecordCall", 2),
        ],
    )
    async def test_after_a_crash_in_any_stage_the_same_ids_are_asked_for(
        self, suite: Suite, method: str, times: int
    ) -> None:
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        expected = {
            name: request_of(suite, name) for name in ("FetchRecording", "TranscribeRecording", "AnalyzeCall")
        }
        again = Suite()
        async with again.serving():
            again.script.hold(method, after=times - 1)
            async with again.worker("w-1", drain_seconds=0) as worker:
                await again.jobs.add(job(body=BODY))
                await again.script.seen(method, times)
                worker.cancel()
                await asyncio.gather(worker, return_exceptions=True)
            again.script.held.clear()
            async with again.worker("w-2"):
                await again.jobs.finished("e1")
            assert again.jobs.outcomes("e1")[-1] == "done"
            for name, request in expected.items():
                assert all(other == request for other in asked(again, name))
            for call in (*again.tenant.calls.values(), *suite.tenant.calls.values()):
                call.ClearField("state_sequence")  # which lease it was
            assert again.tenant.calls == suite.tenant.calls

    async def test_another_generation_asks_for_other_results(self, suite: Suite) -> None:
        async with suite.worker():
            await suite.jobs.add(job("e1", BODY), job("e2", BODY, generation=1))
            await suite.jobs.finished("e1", "e2")
        first, second = asked(suite, "FetchRecording")
        assert first.recording_id == second.recording_id, (
            "the kept bytes: the provider may have deleted its own"
        )
        assert {r.generation for r in asked(suite, "TranscribeRecording")} == {0, 1}
        assert {r.generation for r in asked(suite, "AnalyzeCall")} == {0, 1}

    async def test_what_is_to_be_fetched_again_is_another_recording(self, suite: Suite) -> None:
        async with suite.worker():
            await suite.jobs.add(job("e1", BODY), job("e2", BODY, generation=1, fetch_generation=1))
            await suite.jobs.finished("e1", "e2")
        first, second = asked(suite, "FetchRecording")
        assert first.recording_id != second.recording_id

    async def test_what_was_fetched_is_not_fetched_again(self, suite: Suite) -> None:
        suite.script.failures["TranscribeRecording"] = [Internal()]
        suite.jobs.again = True
        async with suite.worker():
            await suite.jobs.add(job(body=BODY))
            await suite.jobs.finished("e1")
        assert len(asked(suite, "FetchRecording")) == 1


def request_of(suite: Suite, method: str) -> Any:
    return asked(suite, method)[0]


class TestStopping:
    async def test_what_can_end_in_time_ends_and_nothing_new_begins(self, suite: Suite) -> None:
        release = suite.script.hold("AnalyzeCall")
        async with suite.worker(worker_concurrency=1) as worker:
            await suite.jobs.add(job("e1", BODY), job("e2", BODY))
            await suite.script.seen("AnalyzeCall")
            worker.stop.set()  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            release.set()
            await asyncio.wait_for(worker, PATIENCE)
        assert suite.jobs.outcomes("e1") == ["done"]
        assert not suite.jobs.reports["e2"]
        assert not suite.jobs.leased

    async def test_what_cannot_end_in_time_is_given_back(self, suite: Suite) -> None:
        suite.script.hold("TranscribeRecording")
        async with suite.worker(drain_seconds=3.2) as worker:
            await suite.jobs.add(job(body=BODY))
            await suite.script.seen("TranscribeRecording")
            worker.stop.set()  # type: ignore[attr-defined]
            await asyncio.wait_for(worker, 5)
        assert not suite.jobs.leased
        assert suite.jobs.ready == ["e1"]
        assert not suite.jobs.reports["e1"]

    async def test_sigterm_stops_a_worker_that_finds_no_gateway(self, suite: Suite) -> None:
        environment = {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONUNBUFFERED": "1",
            "TRUNKLINE_WORKER_KEYS": str(KEY_FOLDER),
            "TRUNKLINE_WORKER_METRICS_ADDRESS": "",
            "TRUNKLINE_WORKER_GATEWAY_ADDRESS": "127.0.0.1:1",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", START, env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(20):
                while b"claim_failed" not in (line := await process.stdout.readline()):
                    assert line, "it ended before it was asked to"
                began = asyncio.get_running_loop().time()
                process.terminate()
                await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0
        assert asyncio.get_running_loop().time() - began < 10


START = """
import asyncio
from trunkline_gateway.pipeline.app import serve
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_runtime.config import load
asyncio.run(serve(load(WorkerConfig, "worker")))
"""
