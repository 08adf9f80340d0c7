"""What the stages say of a call: the requests that record an event's facts, and what was found out since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from trunkline.ai.v1 import analysis_pb2
from trunkline.audio.v1 import transcript_pb2
from trunkline.tenant.v1 import call_pb2, call_service_pb2

from trunkline_gateway.events import progress
from trunkline_gateway.pipeline import recordings
from trunkline_gateway.pipeline.run import Run
from trunkline_gateway.providers.base import NORMALISE, RECORD, Facts, MediaRequest, Source
from trunkline_gateway.providers.scalars import timestamp

_OPENING_MOST = 200
_OF_ANALYSIS: tuple[str, ...] = (
    "opening_words", "unreliable", "unreliable_reason", "analysis", "spam", "sentiment", "intent", "lead_level",
    "lead_score", "summary", "degraded", "analyze_time", "outcome", "labels", "keywords",
)  # fmt: skip
_OF_TRANSCRIPT: tuple[str, ...] = (
    "recording", "transcript", "recording_duration", "speakers", "language", "warnings",
)  # fmt: skip


def request(
    run: Run, source: Source, facts: Facts, call: call_pb2.Call, stated: Sequence[str]
) -> call_service_pb2.RecordCallRequest:
    """Return the request that states fields of the event's call.

    A call without an id of its own is the event's.
    """
    aliases = facts.aliases or (run.event_id,)
    made = call_service_pb2.RecordCallRequest(
        parent=f"tenants/{run.tenant}",
        call=call,
        field_mask=FieldMask(paths=stated),
        aliases=aliases,
        event=run.job.event,
        event_time=run.job.receive_time,
        receive_time=run.job.receive_time,
        rank=facts.rank,
        region=source.region,
    )
    made.call.provider_call_id = aliases[0]
    if facts.event_time is not None:
        made.event_time.CopyFrom(timestamp(facts.event_time))
    return made


def facts_request(run: Run, source: Source, facts: Facts) -> call_service_pb2.RecordCallRequest:
    """Return the request that states what the payload says; of files, that they are there."""
    made = request(run, source, facts, facts.call, facts.stated)
    # What was recorded whole already, and is run again for a better analysis, is done all the time.
    if RECORD not in run.known:
        state = progress.first_state(facts, run.job.stage or NORMALISE)
        _state(made, state, run if progress.is_processed(facts) else None)
    if facts.media:
        made.call.media.extend(media(file) for file in facts.media)
        made.field_mask.paths.append("media")
    return made


def results_request(
    run: Run,
    source: Source,
    facts: Facts,
    transcript: transcript_pb2.Transcript | None,
    analysis: analysis_pb2.Analysis,
    text: str,
) -> call_service_pb2.RecordCallRequest:
    """Return the request that states what the stages found, under the same event."""
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
        outcome=analysis.outcome,
        labels=[one.name for one in analysis.labels if one.answer == analysis_pb2.ANSWER_YES],
        keywords=sorted({one.keyword for one in analysis.keywords}),
    )
    stated = _OF_ANALYSIS
    if transcript is not None and not transcript.name:  # there was nothing to transcribe
        results.warnings.append(recordings.EMPTY_WARNING)
        stated += ("warnings",)
    elif transcript is not None:
        results.recording = transcript.recording
        results.transcript = transcript.name
        results.recording_duration.CopyFrom(transcript.duration)
        results.speakers = transcript.speakers
        results.language = transcript.language
        results.warnings.extend(recordings.truncation(facts, transcript))
        results.unreliable = transcript.unreliable or analysis.unreliable
        results.degraded = transcript.degraded or analysis.degraded
        # The transcript's reason comes first: an analysis of words that cannot be relied on only repeats it.
        results.unreliable_reason = transcript.unreliable_reason or analysis.unreliable_reason
        stated += _OF_TRANSCRIPT
    if not analysis.HasField("create_time"):
        results.analyze_time.CopyFrom(timestamp(run.now()))
    made = request(run, source, facts, results, stated)
    _state(made, call_pb2.CALL_STATE_DONE, run)
    return made


def _state(made: call_service_pb2.RecordCallRequest, state: progress.State, run: Run | None) -> None:
    """Add how far the event brings its call; without a run a state that gives way to any other event's."""
    made.call.state = state
    made.call.state_sequence = progress.sequence(run.job.lease_token, state) if run else 0
    made.field_mask.paths.extend(progress.FIELDS)


def media(file: MediaRequest, recording: str = "", problem: str = "") -> call_pb2.Media:
    """Return a message's file as its readers see it: without the query, which may open it."""
    return call_pb2.Media(
        url=file.url.split("?", 1)[0], content_type=file.content_type, recording=recording, problem=problem
    )


def keep(expire_time: Timestamp, run: Run, days: int) -> None:
    """Say how long the tenant wants something kept, from now; not set, the service knows."""
    if days:
        expire_time.FromDatetime(run.now() + timedelta(days=days))


def opening(transcript: transcript_pb2.Transcript) -> str:
    """Return the first words of a transcript, enough for the opening."""
    words: list[str] = []
    size = 0
    for segment in transcript.segments:
        words.append(segment.text)
        size += len(segment.text) + 1
        if size > _OPENING_MOST:
            break
    return " ".join(words)
