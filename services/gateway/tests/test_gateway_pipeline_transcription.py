"""The transcription stage follows an operation: it waits a while, yields, and finds it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateway_suite import Suite, job
from test_gateway_pipeline_worker import BODY
from trunkline.audio.v1 import transcription_service_pb2 as audio
from trunkline.common.v1 import priority_pb2
from trunkline_gateway.pipeline.transcription import OPERATION
from trunkline_runtime.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    TrunklineError,
    Unavailable,
    to_status,
)


@pytest.fixture
async def suite() -> AsyncIterator[Suite]:
    suite = Suite()
    suite.audio.slow = True
    async with suite.serving():
        yield suite


def only(suite: Suite) -> Any:
    (operation,) = suite.audio.operations.values()
    return operation


def end(operation: Any, error: TrunklineError | None = None) -> None:
    operation.done = True
    if error is not None:
        operation.error.CopyFrom(to_status(error))
        return
    metadata = audio.TranscribeRecordingMetadata()
    operation.metadata.Unpack(metadata)
    tenant, _, recording = metadata.recording.partition("/recordings/")
    response = audio.TranscribeRecordingResponse(transcript=f"{tenant}/transcripts/t{recording}")
    operation.response.Pack(response)


def reports(suite: Suite, kind: str) -> list[Any]:
    return [report for report in suite.jobs.reports["e1"] if report.WhichOneof("outcome") == kind]


async def test_what_takes_long_gives_its_slot_back_and_is_found_again(suite: Suite) -> None:
    async with suite.worker(worker_concurrency=1):
        await suite.jobs.add(job(body=BODY))
        await suite.jobs.finished("e1", by=("wait",))
        (report,) = reports(suite, "wait")
        operation = only(suite)
        assert report.stage == "transcribe"
        assert report.checkpoint[OPERATION] == operation.name
        assert report.wait.reason == f"OPERATION_RUNNING: {operation.name}"
        assert not suite.jobs.leased, "the slot is free"
        waited = [request.timeout.ToMilliseconds() for request in suite.script.requests["WaitOperation"]]
        assert sum(waited) == 20_000
        end(operation)
        suite.audio.slow = False
        suite.jobs.ready.append("e1")
        await suite.jobs.add()
        await suite.jobs.finished("e1")
    assert len(suite.script.requests["TranscribeRecording"]) == 1
    assert suite.jobs.jobs["e1"].attempts == 1, "waiting spends none"


async def test_after_a_killed_worker_the_next_one_follows_the_same_operation(suite: Suite) -> None:
    suite.script.hold("WaitOperation")
    async with suite.worker("w-1", drain_seconds=0, checkpoint_after_seconds=0.01) as worker:
        await suite.jobs.add(job(body=BODY))
        await suite.script.until(lambda: OPERATION in suite.jobs.jobs["e1"].checkpoint)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    suite.script.held.clear()
    end(only(suite))
    async with suite.worker("w-2"):
        await suite.jobs.finished("e1")
    assert len(suite.script.requests["TranscribeRecording"]) == 1


async def test_an_operation_that_is_gone_is_started_again(suite: Suite) -> None:
    suite.audio.slow = False
    async with suite.worker():
        gone = job(body=BODY, checkpoint={OPERATION: "tenants/acme/operations/audio-gone"})
        await suite.jobs.add(gone)
        await suite.jobs.finished("e1")
    assert len(suite.script.requests["TranscribeRecording"]) == 1


async def test_a_passing_failure_spends_an_attempt_and_starts_it_again(suite: Suite) -> None:
    suite.script.hold("WaitOperation")
    async with suite.worker():
        await suite.jobs.add(job(body=BODY))
        await suite.script.seen("WaitOperation")
        end(only(suite), Aborted("the worker was lost", reason="WORKER_LOST"))
        suite.script.held.pop("WaitOperation")[0].set()
        await suite.jobs.finished("e1", by=("retry",))
        (report,) = reports(suite, "retry")
        assert report.retry.error.startswith("WORKER_LOST")
        assert report.checkpoint[OPERATION] == ""
        suite.audio.slow = False
        suite.jobs.ready.append("e1")
        await suite.jobs.add()
        await suite.jobs.finished("e1")
    one, other = suite.script.requests["TranscribeRecording"]
    assert one.request_id == other.request_id


async def test_a_lasting_failure_is_a_dead_letter(suite: Suite) -> None:
    suite.script.hold("WaitOperation")
    async with suite.worker():
        await suite.jobs.add(job(body=BODY))
        await suite.script.seen("WaitOperation")
        end(only(suite), FailedPrecondition("no sound", reason="RECORDING_UNREADABLE"))
        suite.script.held.pop("WaitOperation")[0].set()
        await suite.jobs.finished("e1")
    (report,) = reports(suite, "dead")
    assert report.dead.error.startswith("RECORDING_UNREADABLE")


async def test_what_cannot_begin_yields_at_once_and_says_why(suite: Suite) -> None:
    suite.script.hold("WaitOperation")
    async with suite.worker():
        await suite.jobs.add(job(body=BODY))
        await suite.script.seen("WaitOperation")
        metadata = audio.TranscribeRecordingMetadata()
        only(suite).metadata.Unpack(metadata)
        missing = Unavailable("no model", reason="ENGINE_NOT_READY", retry_after=1.0)
        metadata.progress.problem.CopyFrom(to_status(missing))
        only(suite).metadata.Pack(metadata)
        suite.script.held.pop("WaitOperation")[0].set()
        await suite.jobs.finished("e1", by=("wait",))
    assert len(suite.script.requests["WaitOperation"]) == 1
    (report,) = reports(suite, "wait")
    assert report.wait.reason.startswith("ENGINE_NOT_READY")
    assert report.checkpoint[OPERATION] == only(suite).name


async def test_a_short_recording_is_transcribed_within_one_call(suite: Suite) -> None:
    suite.audio.seconds = 60
    async with suite.worker():
        await suite.jobs.add(job(body=BODY))
        await suite.jobs.finished("e1")
    assert suite.audio.operations == {}
    (asked,) = suite.script.requests["CreateTranscript"]
    (fetched,) = suite.audio.fetched
    assert (asked.parent, asked.recording) == ("tenants/acme", fetched)
    (report,) = reports(suite, "done")
    assert OPERATION not in report.checkpoint


async def test_what_takes_long_after_all_becomes_an_operation(suite: Suite) -> None:
    suite.audio.seconds, suite.audio.slow = 3, False
    suite.script.failures["CreateTranscript"] = [DeadlineExceeded("it took too long")]
    async with suite.worker():
        await suite.jobs.add(job(body=BODY))
        await suite.jobs.finished("e1")
    (operation,) = suite.audio.operations.values()
    assert operation.done


@pytest.mark.parametrize("seconds", [0, 61])
async def test_a_long_recording_and_one_of_unknown_length_become_operations(
    suite: Suite, seconds: int
) -> None:
    suite.audio.seconds, suite.audio.slow = seconds, False
    async with suite.worker():
        await suite.jobs.add(job(body=BODY))
        await suite.jobs.finished("e1")
    assert len(suite.audio.operations) == 1
    assert not suite.script.requests["CreateTranscript"]


async def test_a_jobs_class_goes_along_and_makes_no_other_operation_of_it() -> None:
    asked = []
    for priority in (priority_pb2.PRIORITY_REALTIME, priority_pb2.PRIORITY_BACKGROUND):
        suite = Suite()
        async with suite.serving(), suite.worker():
            await suite.jobs.add(job(body=BODY, priority=priority))
            await suite.jobs.finished("e1")
        (request,) = suite.script.requests["TranscribeRecording"]
        assert request.priority == priority
        asked.append(request.request_id)
    assert asked[0] == asked[1]


async def test_a_jobs_class_goes_along_with_a_short_recording_and_its_analysis(suite: Suite) -> None:
    suite.audio.seconds = 60
    async with suite.worker():
        await suite.jobs.add(job(body=BODY, priority=priority_pb2.PRIORITY_BATCH))
        await suite.jobs.finished("e1")
    for method in ("CreateTranscript", "AnalyzeCall"):
        (request,) = suite.script.requests[method]
        assert request.priority == priority_pb2.PRIORITY_BATCH
