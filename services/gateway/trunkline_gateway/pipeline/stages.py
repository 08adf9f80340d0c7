"""The stages of one event, top-down: normalise, fetch the recording, transcribe, analyse, record.

Facts are recorded first, before anything slow: the call is in its tenant's list within milliseconds, whatever
becomes of the recording, and the answer says what the call is named, which the later stages need. The results
are recorded under the same event when they are there. Repeating any of it changes nothing: ids derive from
the call, the stage, its input and the generation, and the services create or get.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2
from trunkline.audio.v1 import recording_service_pb2, transcript_pb2, transcription_service_pb2
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.channels import acting_for
from trunkline_runtime.errors import TrunklineError

from trunkline_gateway.ids import digest_id
from trunkline_gateway.pipeline.clients import Clients
from trunkline_gateway.pipeline.policy import NORMALISE, Degraded, Unfetchable
from trunkline_gateway.pipeline.run import Run
from trunkline_gateway.pipeline.sources import Sources
from trunkline_gateway.providers.base import ANALYSE, FETCH, RECORD, TRANSCRIBE, Facts, Source
from trunkline_gateway.providers.payload import timestamp
from trunkline_gateway.providers.registry import adapter_for

_OPENING_MOST = 200


class Stages:
    """The stages over the services they ask."""

    def __init__(self, clients: Clients, sources: Sources, degraded_retry_seconds: float = 30.0):
        """Take the services and the sources, and how soon a degraded analysis is asked for again."""
        self._degraded_retry_seconds = degraded_retry_seconds
        self._clients = clients
        self._sources = sources

    async def process(self, run: Run) -> str:
        """Take one event from its payload to a recorded call; return the call's name, "" when there is none.

        Raises what a stage failed with; `run.stage` says which one it was. Raises Degraded when the call was
        recorded with an analysis that is to be made again.
        """
        source, facts = await self._normalise(run)
        if not facts.stages:
            return ""
        with acting_for(run.tenant):
            call = await self._record_facts(run, facts)
            transcript, text = None, facts.text
            if FETCH in facts.stages:
                recording = await self._fetch(run, source, facts, call)
                transcript = await self._transcribe(run, source, recording)
                text = _words(transcript)
            if ANALYSE in facts.stages:
                analysis = await self._analyse(run, source, facts, call, transcript)
                await self._record_results(run, facts, transcript, analysis, text)
                if (
                    analysis.degraded
                ):  # recorded, and not done: the same stages run again when the engine is back
                    raise Degraded(self._degraded_retry_seconds)
        return call

    async def _normalise(self, run: Run) -> tuple[Source, Facts]:
        """State the payload's facts."""
        job = run.job
        async with run.at(NORMALISE):
            source = await self._sources.get(job.source)
            facts = adapter_for(source.provider).normalise(source, job.event_type, job.body, job.content_type)
        return source, facts

    async def _record_facts(self, run: Run, facts: Facts) -> str:
        """Record what the payload says and return the call's name."""
        stage = NORMALISE if ANALYSE in facts.stages else RECORD
        async with run.at(stage):
            recorded = await self._clients.record(_request(run, facts, facts.call, facts.stated))
        run.note(stage, recorded.name)
        return recorded.name

    async def _fetch(self, run: Run, source: Source, facts: Facts, call: str) -> str:
        """Have the recording fetched and return its name."""
        async with run.at(FETCH):
            if facts.recording is None:
                raise Unfetchable(facts.recording_problem or "the event names no recording")
            recording_id = digest_id("r", (call, FETCH, facts.recording.key, str(run.job.generation)))
            name = f"tenants/{run.tenant}/recordings/{recording_id}"
            if run.known.get(FETCH) == name:
                return name
            request = recording_service_pb2.FetchRecordingRequest(
                parent=f"tenants/{run.tenant}",
                recording_id=recording_id,
                call=call,
                url=facts.recording.url,
                headers=facts.recording.headers,
                url_field=facts.recording.url_field,
            )
            _keep(request.expire_time, run, source.retention.recordings_days)
            try:
                recording = await self._clients.fetch(request)
            except TrunklineError as error:
                if error.reason == "RECORDING_FORBIDDEN":  # the credential may have been changed a moment ago
                    self._sources.forget(source.source_id)
                raise
        run.note(FETCH, recording.name)
        return recording.name

    async def _transcribe(self, run: Run, source: Source, recording: str) -> transcript_pb2.Transcript:
        """Have the recording transcribed; the source's language is a hint, and without one it is detected.

        An unreliable transcript, or one of silence, goes on like any other.
        """
        async with run.at(TRANSCRIBE):
            request = transcription_service_pb2.CreateTranscriptRequest(
                parent=f"tenants/{run.tenant}",
                recording=recording,
                language=source.language,
                generation=run.job.generation,
            )
            _keep(request.expire_time, run, source.retention.transcripts_days)
            transcript = await self._clients.transcribe(request)
        run.note(TRANSCRIBE, transcript.name)
        return transcript

    async def _analyse(
        self,
        run: Run,
        source: Source,
        facts: Facts,
        call: str,
        transcript: transcript_pb2.Transcript | None,
    ) -> analysis_pb2.Analysis:
        """Have the conversation analysed: the transcript, or the text where there is none."""
        async with run.at(ANALYSE):
            request = analysis_service_pb2.AnalyzeCallRequest(
                parent=f"tenants/{run.tenant}",
                call=call,
                transcript=transcript,
                voicemail=facts.call.voicemail,
                generation=run.job.generation,
            )
            _keep(request.expire_time, run, source.retention.analyses_days)
            if transcript is None:
                request.text = facts.text
            analysis = await self._clients.analyse(request)
        run.note(ANALYSE, analysis.name)
        return analysis

    async def _record_results(
        self,
        run: Run,
        facts: Facts,
        transcript: transcript_pb2.Transcript | None,
        analysis: analysis_pb2.Analysis,
        text: str,
    ) -> None:
        """Record what the stages found, under the same event."""
        results = call_pb2.Call(
            source=run.job.source,
            provider=facts.call.provider,
            provider_account=facts.call.provider_account,
            provider_call_id=facts.call.provider_call_id,
            opening_words=text[:_OPENING_MOST],
            unreliable=analysis.unreliable,
            unreliable_reason=analysis.unreliable_reason,
            analysis=analysis.name,
            spam=analysis.spam,
            sentiment=analysis.sentiment,
            intent=analysis.intent,
            lead_level=analysis.lead_level,
            lead_score=analysis.lead_score,
            summary=analysis.summary,
            degraded=analysis.degraded,
            analyze_time=analysis.create_time,
        )
        stated = _OF_ANALYSIS
        if transcript is not None:
            results.recording = transcript.recording
            results.transcript = transcript.name
            results.recording_duration.CopyFrom(transcript.duration)
            results.speakers = transcript.speakers
            results.language = transcript.language
            results.unreliable = transcript.unreliable or analysis.unreliable
            # The transcript's reason comes first: an analysis of words that cannot be relied on only repeats it.
            results.unreliable_reason = transcript.unreliable_reason or analysis.unreliable_reason
            stated += _OF_TRANSCRIPT
        if not analysis.HasField("create_time"):
            results.analyze_time.CopyFrom(timestamp(run.now()))
        async with run.at(RECORD):
            recorded = await self._clients.record(_request(run, facts, results, stated))
        run.note(RECORD, recorded.name)


_OF_ANALYSIS: tuple[str, ...] = (
    "opening_words", "unreliable", "unreliable_reason", "analysis", "spam", "sentiment", "intent", "lead_level",
    "lead_score", "summary", "degraded", "analyze_time",
)  # fmt: skip
_OF_TRANSCRIPT: tuple[str, ...] = ("recording", "transcript", "recording_duration", "speakers", "language")


def _request(
    run: Run, facts: Facts, call: call_pb2.Call, stated: Sequence[str]
) -> call_service_pb2.RecordCallRequest:
    """Return the request that states fields of the event's call.

    A call without an id of its own is the event's.
    """
    aliases = facts.aliases or (run.event_id,)
    request = call_service_pb2.RecordCallRequest(
        parent=f"tenants/{run.tenant}",
        call=call,
        field_mask=FieldMask(paths=stated),
        aliases=aliases,
        event=run.job.event,
        event_time=run.job.receive_time,
        rank=facts.rank,
    )
    request.call.provider_call_id = aliases[0]
    if facts.event_time is not None:
        request.event_time.CopyFrom(timestamp(facts.event_time))
    return request


def _keep(expire_time: Timestamp, run: Run, days: int) -> None:
    """Say how long the tenant wants something kept, from now; not set, the service knows."""
    if days:
        expire_time.FromDatetime(run.now() + timedelta(days=days))


def _words(transcript: transcript_pb2.Transcript) -> str:
    """Return the first words of a transcript, enough for the opening."""
    words: list[str] = []
    size = 0
    for segment in transcript.segments:
        words.append(segment.text)
        size += len(segment.text) + 1
        if size > _OPENING_MOST:
            break
    return " ".join(words)
