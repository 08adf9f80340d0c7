"""The stages of one event, top-down: normalise, fetch the recording, transcribe, analyse, record, fetch the media.

Facts are recorded first, before anything slow: the call is in its tenant's list within milliseconds, whatever
becomes of the recording, and the answer says what the call is named, which the later stages need. The results
are recorded under the same event when they are there. Repeating any of it changes nothing: ids derive from
the call, the stage, its input and the generation, and the services create or get.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2
from trunkline.audio.v1 import (
    recording_pb2,
    recording_service_pb2,
    transcript_pb2,
    transcription_service_pb2,
)
from trunkline.tenant.v1 import call_pb2
from trunkline_runtime.breakers import CircuitOpen
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.rpc.channels import acting_for

from trunkline_gateway.events.progress import of_stage, told_state
from trunkline_gateway.ids import digest_id
from trunkline_gateway.json_bounds import is_heavy
from trunkline_gateway.pipeline import call_requests, recordings
from trunkline_gateway.pipeline.clients import Clients
from trunkline_gateway.pipeline.lookups import Ask
from trunkline_gateway.pipeline.media import MediaKeeper
from trunkline_gateway.pipeline.policy import (
    EMPTY,
    ENGINE_UNKNOWN,
    FORBIDDEN,
    NOT_AUDIO,
    Degraded,
    Unfetchable,
)
from trunkline_gateway.pipeline.run import Run
from trunkline_gateway.pipeline.sources import RefusedSources, Sources
from trunkline_gateway.pipeline.transcription import Transcription
from trunkline_gateway.providers.base import (
    ANALYSE,
    FETCH,
    NORMALISE,
    RECORD,
    TRANSCRIBE,
    Facts,
    Malformed,
    Source,
)
from trunkline_gateway.providers.registry import adapter_for


class Stages:
    """The stages over the services they ask."""

    def __init__(
        self,
        clients: Clients,
        sources: Sources,
        degraded_retry_seconds: float = 30.0,
        ask: Ask | None = None,
        tell_after_seconds: float = 1.0,
        recording_wait_seconds: float = 86_400.0,
    ):
        """Take the services and the sources, how soon a degraded analysis is asked for again, and who looks up.

        A stage that lasts longer than `tell_after_seconds` is told to the call. A recording without bytes is waited for
        as long as `recording_wait_seconds`.
        """
        self._tell_after_seconds = tell_after_seconds
        self._recording_wait_seconds = recording_wait_seconds
        self._degraded_retry_seconds = degraded_retry_seconds
        self._clients = clients
        self._sources = sources
        self._ask = ask
        self._refusals = RefusedSources()
        self._media = MediaKeeper(clients)
        self._transcription = Transcription(clients)

    async def process(self, run: Run) -> str:
        """Take one event from its payload to a recorded call; return the call's name, "" when there is none.

        Raises what a stage failed with; `run.stage` says which one it was. Raises Degraded when the call was
        recorded with a transcript or an analysis that is to be made again.
        """
        source, facts = await self._normalise(run)
        if not facts.stages:
            return ""
        with acting_for(run.tenant):
            call = await self._record_facts(run, source, facts)
            analysis, transcript, text = None, None, facts.text
            recording = None
            if FETCH in facts.stages:
                recording = await self._fetch(run, source, facts, call.name)
            if recording is not None:
                transcript = await self._transcribe(run, source, recording, call.direction)
                run.warn(*recordings.truncation(facts, transcript))
                text = call_requests.opening(transcript)
            elif FETCH in facts.stages:
                # Nobody will ever hear this call: it is analysed as one in which nobody spoke.
                transcript = transcript_pb2.Transcript()
                run.warn(recordings.EMPTY_WARNING)
            if ANALYSE in facts.stages:
                analysis = await self._analyse(run, source, facts, call.name, transcript)
                await self._record_results(run, source, facts, transcript, analysis, text)
            if facts.media:
                await self._media.keep(run, source, facts, call.name)
        # Recorded, and not done: the same stages run again when the engine is back.
        if transcript is not None and transcript.degraded and not transcript.degraded_final:
            raise Degraded(self._degraded_retry_seconds, "transcript")
        if analysis is not None and analysis.degraded and not analysis.final:
            raise Degraded(self._degraded_retry_seconds)
        return call.name

    async def _normalise(self, run: Run) -> tuple[Source, Facts]:
        """State the payload's facts."""
        job = run.job
        async with run.at(NORMALISE):
            source = await self._sources.get(job.source)
            normalise, body = adapter_for(source.provider).normalise, job.body
            given = (source, job.event_type, body, job.content_type)
            # A megabyte of JSON takes tens of milliseconds, and the leases of other jobs are kept on this loop.
            facts = await asyncio.to_thread(normalise, *given) if is_heavy(body) else normalise(*given)
        run.warnings = facts.warnings
        return source, facts

    async def _record_facts(self, run: Run, source: Source, facts: Facts) -> call_pb2.Call:
        """Record what the payload says, and what the provider's API says where nobody knows the caller."""
        stage = NORMALISE if ANALYSE in facts.stages else RECORD
        async with run.at(stage):
            recorded = await self._clients.record(call_requests.facts_request(run, source, facts))
            if facts.lookup is not None and self._ask is not None and not recorded.caller_number:
                recorded = await self._record_looked_up(run, source, facts) or recorded
        run.note(stage, recorded.name)
        return recorded

    async def _record_looked_up(self, run: Run, source: Source, facts: Facts) -> call_pb2.Call | None:
        """Record what the provider's API adds to the event; None when it does not answer."""
        assert facts.lookup is not None
        assert self._ask is not None
        answer = await self._ask(facts.lookup)
        if answer is None:
            return None
        try:
            found = adapter_for(source.provider).looked_up(source, answer)
        except Malformed:
            return None
        added = [field for field in found.stated if field not in facts.stated]
        return await self._clients.record(call_requests.request(run, source, facts, found.call, added))

    async def _fetch(
        self, run: Run, source: Source, facts: Facts, call: str
    ) -> recording_pb2.Recording | None:
        """Have the recording fetched and return it; of one that an earlier run fetched, the name.

        None for one that has no bytes, and had long enough to get some.
        """
        async with run.at(FETCH):
            if facts.recording is None:
                raise Unfetchable(facts.recording_problem or "the event names no recording")
            # Not the job's generation: what is processed anew is what was kept, which the provider may have deleted
            # since, unless a replay asked for the recording to be fetched again.
            fetched = str(run.job.fetch_generation)
            recording_id = digest_id("r", (call, FETCH, facts.recording.key, fetched))
            name = f"tenants/{run.tenant}/recordings/{recording_id}"
            if run.known.get(FETCH) == EMPTY:
                return None
            if run.known.get(FETCH) == name:
                return recording_pb2.Recording(name=name)
            request = recording_service_pb2.FetchRecordingRequest(
                parent=f"tenants/{run.tenant}",
                recording_id=recording_id,
                call=call,
                url=facts.recording.url,
                headers=facts.recording.headers,
                url_field=facts.recording.url_field,
                quota_bytes=source.quotas.recordings_bytes,
                headerless_format=source.headerless_format,
            )
            call_requests.keep(request.expire_time, run, source.retention.recordings_days)
            if run.attempt < recordings.ATTEMPTS:
                recordings.ask_for_whole(request, facts)
            try:
                recording = await self._clients.fetch(request)
            except TrunklineError as error:
                if error.reason in (
                    FORBIDDEN,
                    NOT_AUDIO,
                ):  # the source may be mended by the next try, or a replay
                    self._sources.forget(source.source_id)
                if error.reason == FORBIDDEN:
                    self._refusals.refused(run.job.source)
                if error.reason == EMPTY and run.waited_seconds >= self._recording_wait_seconds:
                    run.note(FETCH, EMPTY)  # a later run of a later stage waits no more
                    return None
                raise
            self._refusals.answered(run.job.source)
        run.note(FETCH, recording.name)
        return recording

    async def _transcribe(
        self, run: Run, source: Source, recording: recording_pb2.Recording, direction: int
    ) -> transcript_pb2.Transcript:
        """Have the recording transcribed; the source's language is a hint, and without one it is detected.

        An unreliable transcript, or one of silence, goes on like any other.
        """
        with self._telling(run, TRANSCRIBE):
            async with run.at(TRANSCRIBE):
                request = transcription_service_pb2.TranscribeRecordingRequest(
                    name=recording.name,
                    language=source.language,
                    channel_speakers=recordings.channel_speakers(source, direction),
                    generation=run.job.generation,
                    priority=run.job.priority,
                    engine=source.speech_settings.engine,
                    phrases=source.speech_settings.phrases,
                )
                redaction = source.analysis_settings.redaction
                if redaction.stored_transcripts:
                    request.redaction.stored_transcripts = True
                    request.redaction.kinds.extend(sorted(redaction.kinds))
                call_requests.keep(request.expire_time, run, source.retention.transcripts_days)
                seconds = recording.duration.ToTimedelta().total_seconds()
                try:
                    transcript = await self._transcription.of(run, request, seconds)
                except TrunklineError as error:
                    if error.reason == ENGINE_UNKNOWN:  # the tenant's settings may be mended by the next try
                        self._sources.forget(source.source_id)
                    raise
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
        with self._telling(run, ANALYSE):
            async with run.at(ANALYSE):
                request = analysis_service_pb2.AnalyzeCallRequest(
                    parent=f"tenants/{run.tenant}",
                    call=call,
                    transcript=transcript,
                    voicemail=facts.call.voicemail,
                    direction=facts.call.direction,
                    generation=run.job.generation,
                    settings=source.analysis_settings,
                    priority=run.job.priority,
                )
                call_requests.keep(request.expire_time, run, source.retention.analyses_days)
                if transcript is None:
                    request.text = facts.text
                analysis = await self._clients.analyse(request)
        run.note(ANALYSE, analysis.name)
        return analysis

    async def told_dead(self, run: Run, reason: str) -> None:
        """Say in the event's call that it cannot go on. Raises TrunklineError, CircuitOpen."""
        if run.call:
            with acting_for(run.tenant):
                await self._clients.record_state(
                    told_state(
                        run.call, run.job.event, call_pb2.CALL_STATE_FAILED, run.job.lease_token, reason
                    )
                )

    @contextmanager
    def _telling(self, run: Run, stage: str) -> Iterator[None]:
        """Say in the event's call that it is at a stage, once that has lasted for a while."""
        telling: list[asyncio.Task[None]] = []

        def lasts() -> None:
            telling.append(asyncio.create_task(self._tell(run, stage)))

        timer = asyncio.get_running_loop().call_later(self._tell_after_seconds, lasts)
        try:
            yield
        finally:
            timer.cancel()
            for task in telling:
                task.cancel()

    async def _tell(self, run: Run, stage: str) -> None:
        request = told_state(run.call, run.job.event, of_stage(stage), run.job.lease_token)
        with contextlib.suppress(TrunklineError, CircuitOpen):  # what comes next says it anyway
            await self._clients.record_state(request)

    async def _record_results(
        self,
        run: Run,
        source: Source,
        facts: Facts,
        transcript: transcript_pb2.Transcript | None,
        analysis: analysis_pb2.Analysis,
        text: str,
    ) -> None:
        """Record what the stages found, under the same event."""
        request = call_requests.results_request(run, source, facts, transcript, analysis, text)
        async with run.at(RECORD):
            recorded = await self._clients.record(request)
        run.note(RECORD, recorded.name)
