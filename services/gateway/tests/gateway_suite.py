"""The other services as a worker meets them: servicers of the real protos on a real socket, scripted by the test."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
from gateway_deliveries import NOW
from google.longrunning import operations_pb2, operations_pb2_grpc
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import (
    recording_pb2,
    recording_service_pb2_grpc,
    transcript_pb2,
    transcription_service_pb2,
    transcription_service_pb2_grpc,
)
from trunkline.common.v1 import labels_pb2, provider_pb2
from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline.gateway.v1 import job_service_pb2_grpc
from trunkline.tenant.v1 import (
    call_pb2,
    call_service_pb2,
    call_service_pb2_grpc,
    source_pb2,
    source_service_pb2_grpc,
)
from trunkline_gateway.pipeline.app import build
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_runtime.errors import NotFound, TrunklineError
from trunkline_runtime.errors.wire import to_status, to_trailers
from trunkline_runtime.testing import KEY_FOLDER

PATIENCE = 10.0


class Script:
    """What every fake shares: it notes requests, fails as told, and stands still while held."""

    def __init__(self) -> None:
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.failures: dict[str, list[TrunklineError | None]] = defaultdict(list)
        self.held: dict[str, tuple[asyncio.Event, int]] = {}
        self.changed = asyncio.Condition()

    async def enter(self, method: str, request: Any, context: Any) -> None:
        async with self.changed:
            self.requests[method].append(request)
            self.changed.notify_all()
        release, after = self.held.get(method, (None, 0))
        if release is not None and len(self.requests[method]) > after:
            await release.wait()
        failures = self.failures[method]
        if failures and (error := failures.pop(0)) is not None:
            trailers = to_trailers(to_status(error))
            await context.abort(error.code, error.message, trailing_metadata=trailers)

    def hold(self, method: str, after: int = 0) -> asyncio.Event:
        """Let a method stand still, after so many calls of it, until the event that is returned is set."""
        release = asyncio.Event()
        self.held[method] = (release, after)
        return release

    async def until(self, ready: Callable[[], bool]) -> None:
        async with self.changed, asyncio.timeout(PATIENCE):
            await self.changed.wait_for(ready)

    async def seen(self, method: str, times: int = 1) -> None:
        await self.until(lambda: len(self.requests[method]) >= times)


class Jobs(job_service_pb2_grpc.JobServiceServicer):
    """A queue in memory that knows leases and stages as the gateway's does."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.jobs: dict[str, pb.Job] = {}
        self.ready: list[str] = []
        self.reports: dict[str, list[pb.JobReport]] = defaultdict(list)
        self.lost: set[str] = set()
        self.leased: dict[str, str] = {}
        self.again = False  # retries and waits are due at once
        self.stopping = False  # claims are answered at once, with nothing

    async def add(self, *jobs: pb.Job) -> None:
        async with self.script.changed:
            for job in jobs:
                self.jobs[job.job_id] = job
                self.ready.append(job.job_id)
            self.script.changed.notify_all()

    async def ClaimJobs(self, request: pb.ClaimJobsRequest, context: Any) -> pb.ClaimJobsResponse:
        await self.script.enter("ClaimJobs", request, context)
        if self.stopping:
            return pb.ClaimJobsResponse()

        def free() -> int:
            held = sum(worker == request.worker for worker in self.leased.values())
            return min(request.limit, request.slots - held)

        async with self.script.changed:
            try:
                async with asyncio.timeout(request.wait.ToTimedelta().total_seconds()):
                    await self.script.changed.wait_for(lambda: bool(self.ready) and free() > 0)
            except TimeoutError:
                return pb.ClaimJobsResponse()
            taken, self.ready = self.ready[: free()], self.ready[free() :]
            answer = pb.ClaimJobsResponse()
            for job_id in taken:
                job = self.jobs[job_id]
                job.lease_token += 1
                job.attempts += 1
                self.leased[job_id] = request.worker
                answer.jobs.append(job)
            return answer

    async def RenewLeases(self, request: pb.RenewLeasesRequest, context: Any) -> pb.RenewLeasesResponse:
        await self.script.enter("RenewLeases", request, context)
        return pb.RenewLeasesResponse(
            lost_job_ids=[x.job_id for x in request.leases if x.job_id in self.lost]
        )

    async def ReportJobs(self, request: pb.ReportJobsRequest, context: Any) -> pb.ReportJobsResponse:
        await self.script.enter("ReportJobs", request, context)
        lost = []
        async with self.script.changed:
            for report in request.reports:
                job = self.jobs[report.lease.job_id]
                if report.lease.lease_token != job.lease_token or job.job_id in self.lost:
                    lost.append(job.job_id)
                    continue
                self.apply(job, report)
            self.script.changed.notify_all()
        return pb.ReportJobsResponse(lost_job_ids=lost)

    def apply(self, job: pb.Job, report: pb.JobReport) -> None:
        self.reports[job.job_id].append(report)
        job.checkpoint.update(report.checkpoint)
        outcome = report.WhichOneof("outcome")
        if outcome == "advance":
            job.stage = report.advance.next_stage
            job.attempts = 1
            job.stage_start_time.FromDatetime(datetime.now(UTC))  # the worker's clock is the real one
            return
        self.leased.pop(job.job_id, None)
        if outcome == "wait":
            job.attempts -= 1
        if outcome in ("wait", "retry") and self.again:
            self.ready.append(job.job_id)

    async def ReleaseLeases(self, request: pb.ReleaseLeasesRequest, context: Any) -> pb.ReleaseLeasesResponse:
        await self.script.enter("ReleaseLeases", request, context)
        async with self.script.changed:
            mine = [job_id for job_id, worker in self.leased.items() if worker == request.worker]
            for job_id in mine:
                del self.leased[job_id]
                self.ready.append(job_id)
            self.script.changed.notify_all()
        return pb.ReleaseLeasesResponse(released=len(mine))

    def outcomes(self, job_id: str) -> list[str]:
        return [str(report.WhichOneof("outcome")) for report in self.reports[job_id]]

    async def finished(self, *job_ids: str, by: tuple[str, ...] = ("done", "dead")) -> None:
        await self.script.until(
            lambda: all(self.outcomes(job_id)[-1:] and self.outcomes(job_id)[-1] in by for job_id in job_ids)
        )


class Tenant(source_service_pb2_grpc.SourceServiceServicer, call_service_pb2_grpc.CallServiceServicer):
    """Sources, and calls merged by field, event time and rank."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.sources: dict[str, source_pb2.ResolvedSource] = {}
        self.calls: dict[str, call_pb2.Call] = {}
        self.stamps: dict[tuple[str, str], tuple[Any, ...]] = {}

    async def ResolveSource(self, request: Any, context: Any) -> source_pb2.ResolvedSource:
        await self.script.enter("ResolveSource", request, context)
        return self.sources[request.source_id]

    async def RecordCall(self, request: Any, context: Any) -> call_pb2.Call:
        await self.script.enter("RecordCall", request, context)
        name = f"{request.parent}/calls/{'-'.join(request.aliases).lower()}"
        call = self.calls.setdefault(name, call_pb2.Call(name=name))
        stamp = (request.event_time.ToDatetime(), request.rank, request.event)
        for field in request.field_mask.paths:
            if stamp >= self.stamps.get((name, field), stamp):
                self.stamps[name, field] = stamp
                call.ClearField(field)
                part = call_pb2.Call()
                part.CopyFrom(request.call)
                for other in call.DESCRIPTOR.fields:
                    if other.name != field:
                        part.ClearField(other.name)
                call.MergeFrom(part)
        async with self.script.changed:
            self.script.changed.notify_all()
        return call

    async def RecordCallState(self, request: Any, context: Any) -> Any:
        await self.script.enter("RecordCallState", request, context)
        call = self.calls[request.name]
        call.state, call.state_reason = request.state, request.state_reason
        return call_service_pb2.RecordCallStateResponse(recorded=True)


class Audio(
    recording_service_pb2_grpc.RecordingServiceServicer,
    transcription_service_pb2_grpc.TranscriptionServiceServicer,
    operations_pb2_grpc.OperationsServicer,
):
    """Recordings and transcripts, create or get."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.fetched: set[str] = set()
        self.seconds = 0  # of the recordings
        self.operations: dict[str, operations_pb2.Operation] = {}
        self.slow = False  # operations that are started go on; a test ends them
        self.unreliable_reason = ""
        self.language = "en-US"
        self.segments = ["hello my roof", "leaks badly"]
        self.degraded = 0  # how many more transcripts are another engine's than the wanted one's

    async def FetchRecording(self, request: Any, context: Any) -> recording_pb2.Recording:
        await self.script.enter("FetchRecording", request, context)
        name = f"{request.parent}/recordings/{request.recording_id}"
        self.fetched.add(name)
        recording = recording_pb2.Recording(name=name)
        recording.duration.FromSeconds(self.seconds)
        return recording

    async def CreateTranscript(self, request: Any, context: Any) -> transcript_pb2.Transcript:
        await self.script.enter("CreateTranscript", request, context)
        assert request.recording in self.fetched
        return self._transcript(request.recording.replace("/recordings/", "/transcripts/t"))

    async def TranscribeRecording(self, request: Any, context: Any) -> operations_pb2.Operation:
        await self.script.enter("TranscribeRecording", request, context)
        assert request.name in self.fetched
        tenant, _, recording = request.name.partition("/recordings/")
        name = f"{tenant}/operations/audio-{len(self.operations)}"
        done = operations_pb2.Operation(name=name, done=not self.slow)
        done.metadata.Pack(transcription_service_pb2.TranscribeRecordingMetadata(recording=request.name))
        transcript = f"{tenant}/transcripts/t{recording}"
        if done.done:
            done.response.Pack(transcription_service_pb2.TranscribeRecordingResponse(transcript=transcript))
        self.operations[name] = done
        return done

    async def WaitOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        await self.script.enter("WaitOperation", request, context)
        if request.name not in self.operations:
            error = NotFound(request.name)
            await context.abort(error.code, error.message, trailing_metadata=to_trailers(to_status(error)))
        return self.operations[request.name]

    async def GetTranscript(self, request: Any, context: Any) -> transcript_pb2.Transcript:
        await self.script.enter("GetTranscript", request, context)
        return self._transcript(request.name)

    def _transcript(self, name: str) -> transcript_pb2.Transcript:
        transcript = transcript_pb2.Transcript(
            name=name,
            recording=name.replace("/transcripts/t", "/recordings/"),
            speakers=2,
            language=self.language,
            unreliable=bool(self.unreliable_reason),
            unreliable_reason=self.unreliable_reason,
            segments=[transcript_pb2.Segment(text=text) for text in self.segments],
            degraded=self.degraded > 0,
        )
        self.degraded = max(0, self.degraded - 1)
        transcript.duration.FromMilliseconds(7930)
        return transcript


class Ai(analysis_service_pb2_grpc.AnalysisServiceServicer):
    """One analysis for everything."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.degraded = 0  # how many more answers are a lesser engine's
        self.unreliable_reason = ""
        self.final = False  # and will not become better

    async def AnalyzeCall(self, request: Any, context: Any) -> analysis_pb2.Analysis:
        await self.script.enter("AnalyzeCall", request, context)
        analysis = analysis_pb2.Analysis(
            name=f"{request.parent}/analyses/a{request.call.rsplit('/', 1)[1]}-{request.generation}",
            sentiment=labels_pb2.SENTIMENT_NEGATIVE,
            intent=labels_pb2.INTENT_QUOTE_REQUEST,
            lead_level=labels_pb2.LEAD_LEVEL_HIGH,
            lead_score=80,
            summary="A roof leaks.",
            outcome=labels_pb2.CALL_OUTCOME_BOOKED,
            labels=[
                {"name": "financing", "answer": analysis_pb2.ANSWER_YES},
                {"name": "insured", "answer": analysis_pb2.ANSWER_NO},
            ],
            keywords=[{"keyword": "roof"}, {"keyword": "leak"}, {"keyword": "roof"}],
            unreliable=bool(self.unreliable_reason),
            unreliable_reason=self.unreliable_reason,
            degraded=self.degraded > 0,
            final=self.degraded > 0 and self.final,
        )
        self.degraded = max(0, self.degraded - 1)
        analysis.create_time.FromDatetime(NOW)
        return analysis


class Suite:
    """All of them behind one port, and workers against it."""

    def __init__(self) -> None:
        self.script = Script()
        self.jobs = Jobs(self.script)
        self.tenant = Tenant(self.script)
        self.audio = Audio(self.script)
        self.ai = Ai(self.script)
        self.address = ""
        self.add_source("s-1", provider_pb2.PROVIDER_CALLRAIL)

    def add_source(self, source_id: str, provider: Any, **options: Any) -> None:
        self.tenant.sources[source_id] = source_pb2.ResolvedSource(
            source=source_pb2.Source(
                name=f"tenants/acme/sources/{source_id}",
                provider=provider,
                provider_account="227799611",
                **{"language": "en-US", **options},
            ),
            secrets=[source_pb2.SourceSecret(value="s")],
            fetch_credential="key-1",
            accepting=True,
        )

    def config(self, **settings: Any) -> WorkerConfig:
        defaults: dict[str, Any] = {
            "keys": KEY_FOLDER,
            "metrics_address": "",
            "gateway_address": self.address,
            "tenant_address": self.address,
            "audio_address": self.address,
            "ai_address": self.address,
            "claim_wait_seconds": 5.0,
            "checkpoint_after_seconds": 60.0,
        }
        return WorkerConfig(**{**defaults, **settings})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Suite]:
        server = grpc.aio.server()
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self.jobs, server)
        source_service_pb2_grpc.add_SourceServiceServicer_to_server(self.tenant, server)
        call_service_pb2_grpc.add_CallServiceServicer_to_server(self.tenant, server)
        recording_service_pb2_grpc.add_RecordingServiceServicer_to_server(self.audio, server)
        transcription_service_pb2_grpc.add_TranscriptionServiceServicer_to_server(self.audio, server)
        operations_pb2_grpc.add_OperationsServicer_to_server(self.audio, server)
        analysis_service_pb2_grpc.add_AnalysisServiceServicer_to_server(self.ai, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)

    @asynccontextmanager
    async def worker(self, name: str = "w-1", **settings: Any) -> AsyncIterator[asyncio.Task[None]]:
        """Run a worker; at the end it is stopped as SIGTERM stops it. Cancelling the task is its crash."""
        stop = asyncio.Event()
        async with build(self.config(**settings), name=name) as work:
            task = asyncio.create_task(work.worker.run(stop))
            task.stop = stop  # type: ignore[attr-defined]
            try:
                yield task
            finally:
                stop.set()
                if not task.done():
                    await asyncio.wait_for(task, PATIENCE)


def job(event: str = "e1", body: bytes = b"{}", event_type: str = "post_call", **fields: Any) -> pb.Job:
    made = pb.Job(
        **{
            "job_id": event,
            "event": f"tenants/acme/events/{event}",
            "source": "tenants/acme/sources/s-1",
            "provider": provider_pb2.PROVIDER_CALLRAIL,
            "event_type": event_type,
            "stage": "normalise",
            "body": body,
            "content_type": "application/json",
            **fields,
        }
    )
    made.receive_time.FromDatetime(NOW)
    return made
