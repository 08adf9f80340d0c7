"""Makes transcripts: each once, a bounded number at a time, from an engine's answer to a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias, cast

from trunkline.audio.v1 import transcript_pb2
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors import Aborted, FailedPrecondition, NotFound, ResourceExhausted
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe import logs, metrics
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_store.clock import Clock
from trunkline_store.records.expiry import expiry

from trunkline_audio.engines.base import (
    NO_CHECKPOINTS,
    Checkpoints,
    EngineResult,
    Segment,
    SpeechEngine,
    SubmittingEngine,
)
from trunkline_audio.media.blobs.base import BlobNotFound, Blobs
from trunkline_audio.media.preparation import Preparer, RecordingFile
from trunkline_audio.names import derived_id, microseconds, recording_name
from trunkline_audio.recordings.receiver import unreadable
from trunkline_audio.recordings.rows import Recording
from trunkline_audio.transcripts.places import Guest, has_room
from trunkline_audio.transcripts.results import Results
from trunkline_audio.transcripts.rows import Transcript, Transcripts, segment, used
from trunkline_audio.transcripts.submissions import submitted

log = logs.get_logger(__name__)

_seconds = metrics.histogram(
    "trunkline_audio_transcription_seconds", "Seconds a transcription took", ["engine"]
)
_sound = metrics.counter("trunkline_audio_sound_seconds_total", "Seconds of sound transcribed", ["engine"])
_unreliable = metrics.counter(
    "trunkline_audio_unreliable_total", "Transcripts that cannot be relied on", ["engine", "reason"]
)

_reused = metrics.counter(
    "trunkline_audio_reused_total", "Transcripts that took over the words of an earlier one", ["engine"]
)

LONGEST_PAUSE_SECONDS = 30.0
AGENT_THEN_CUSTOMER = (transcript_pb2.SPEAKER_AGENT, transcript_pb2.SPEAKER_CUSTOMER)
VOICES = (
    transcript_pb2.SPEAKER_UNSPECIFIED,
    transcript_pb2.SPEAKER_VOICE_1,
    transcript_pb2.SPEAKER_VOICE_2,
    transcript_pb2.SPEAKER_VOICE_3,
)


@dataclass(frozen=True)
class TranscriptionTask:
    """What is to be transcribed, and how."""

    tenant_id: str
    recording_id: str
    language: str = ""
    """What is said to be spoken, BCP 47; empty when nobody said so."""
    channel_speakers: tuple[int, ...] = ()
    generation: int = 0
    expire_at: datetime | None = None
    """When it is deleted; None: as the service is set to."""
    priority: int = 0
    """Its class, 0 (realtime), 1 (batch), or 2 (background)."""


CheckpointsOf: TypeAlias = Callable[[Recording, str], Checkpoints]
"""The checkpoints of a recording's transcript, by its id."""


def _none_of(recording: Recording, identity: str) -> Checkpoints:
    return NO_CHECKPOINTS


class Transcriber:
    """Runs the engine over recordings, `at_once` of them at a time; a second request joins the first.

    The same sound is heard once, whichever recordings of a tenant it is in: the others take over what was heard.
    """

    def __init__(
        self,
        *,
        transcripts: Transcripts,
        results: Results,
        blobs: Blobs,
        preparer: Preparer,
        engine: SpeechEngine,
        clock: Clock,
        at_once: int,
        keep_days: int = 0,
        pace: Pace = MACHINE,
    ) -> None:
        self._transcripts = transcripts
        self._results = results
        self._pace = pace
        self._blobs = blobs
        self._preparer = preparer
        self._engine = engine
        self._clock = clock
        self._at_once = at_once
        self._guests: list[Guest] = []
        self._keep_days = keep_days
        self._pace = pace
        self._flights: Flights[str, Transcript] = Flights()
        self._usual_seconds = 1.0

    async def transcribe(
        self,
        task: TranscriptionTask,
        checkpoints_of: CheckpointsOf = _none_of,
        *,
        stops: bool = False,
    ) -> Transcript:
        """The transcript, made unless it is there. Raises TrunklineError as CreateTranscript documents.

        `checkpoints_of` gives what is kept of the recording for further attempts. With `stops`, the work stops when
        the asker gives up and nobody else waits; otherwise its result is kept for the next try.
        """
        recording, found = await self._transcripts.find(
            task.tenant_id, task.recording_id, lambda of: transcript_id(task, of.sha256)
        )
        if recording is None:
            raise NotFound(recording_name(task.tenant_id, task.recording_id))
        if found is not None:
            return found
        identity = transcript_id(task, recording.sha256)
        key = f"{task.tenant_id}/{identity}"
        return await self._flights.run(
            key,
            lambda: self._taken_over_or_heard(task, recording, identity, checkpoints_of),
            stops=stops,
        )

    async def _taken_over_or_heard(
        self, task: TranscriptionTask, recording: Recording, identity: str, checkpoints_of: CheckpointsOf
    ) -> Transcript:
        key = result_key(task, recording, self._engine.name)
        while True:
            standing = await self._results.standing(task.tenant_id, key)
            if standing.result is None and not standing.is_held:
                with self._place(Guest(task.tenant_id, recording.duration_us / 1e6, task.priority)):
                    claimed = await self._results.claim(task.tenant_id, key)
                    if claimed is None:
                        return await self._heard(task, recording, identity, key, checkpoints_of)
                standing = claimed
            if standing.result is not None:
                return await self._take_over(task, recording, identity, standing.result)
            await self._pace.sleep(self._results.look_seconds)

    @contextmanager
    def _place(self, guest: Guest) -> Iterator[None]:
        """Take one of the places for recordings that an engine listens to. Raises ResourceExhausted."""
        if not has_room(self._at_once, guest, self._guests):
            raise ResourceExhausted(
                "the limit of recordings that are transcribed at once is reached",
                reason="ENGINES_BUSY",
                subject="recordings transcribed at once",
                retry_after=min(LONGEST_PAUSE_SECONDS, self._usual_seconds),
            )
        self._guests.append(guest)
        try:
            yield
        finally:
            self._guests.remove(guest)

    async def _take_over(
        self, task: TranscriptionTask, recording: Recording, identity: str, earlier: Transcript
    ) -> Transcript:
        """Keep what was heard before of the same sound, with this recording's roles."""
        segments = earlier.segments
        if (earlier.lanes or 1) > 1:
            roles = task.channel_speakers or AGENT_THEN_CUSTOMER
            segments = [{**item, "speaker": role(item["channel"], roles)} for item in segments]
        made = replace(
            earlier,
            transcript_id=identity,
            recording_id=task.recording_id,
            segments=segments,
            created_at=self._clock.now(),
            expire_at=expiry(task.expire_at, self._keep_days, self._clock.now()),
            usage=None,
            reused=True,
        )
        stored = await self._transcripts.add(made)
        if stored is None:
            raise NotFound(recording_name(task.tenant_id, task.recording_id))
        _reused.labels(earlier.engine).inc()
        log.info(
            "transcript_reused", tenant=task.tenant_id, recording=task.recording_id, of=earlier.transcript_id
        )
        return stored

    async def _heard(
        self,
        task: TranscriptionTask,
        recording: Recording,
        identity: str,
        key: str,
        checkpoints_of: CheckpointsOf,
    ) -> Transcript:
        """Have the engine listen, while this process holds the result."""
        released = False
        try:
            async with self._results.held(task.tenant_id, key):
                made = await self._transcribe(task, recording, identity, key, checkpoints_of)
            released = True
            return made
        finally:
            if not released:
                await self._results.give_up(task.tenant_id, key)

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._flights.close()

    async def _transcribe(
        self,
        task: TranscriptionTask,
        recording: Recording,
        identity: str,
        key: str,
        checkpoints_of: CheckpointsOf,
    ) -> Transcript:
        begun = self._clock.now()
        checkpoints = checkpoints_of(recording, identity)
        seconds, most = recording.duration_us / 1e6, self._engine.capabilities.longest_seconds
        submits = self._engine.capabilities.submits and checkpoints.lasting
        if seconds > most and not submits:
            raise FailedPrecondition(
                f"the recording has {seconds:.0f} s of sound, and {self._engine.name} takes at most {most:.0f} s",
                reason="RECORDING_TOO_LONG",
            )
        try:
            async with self._blobs.local(recording.blob_key) as path:
                kept = RecordingFile(
                    path,
                    self._preparer,
                    tenant_id=task.tenant_id,
                    language=task.language,
                    seconds=seconds,
                    channels=recording.channels,
                    headerless=recording.headerless,
                    priority=task.priority,
                    checkpoints=checkpoints,
                )
                if seconds > most:
                    heard = await submitted(cast(SubmittingEngine, self._engine), kept, self._pace)
                else:
                    heard = await self._engine.transcribe(kept)
        except EngineError as error:
            if error.reason.startswith("WORKER_"):
                # A recording that ends its process each time is not tried for ever: this spends attempts.
                raise Aborted(str(error), reason=error.reason) from None
            raise unreadable(error) from None
        except BlobNotFound:
            raise FailedPrecondition(
                "the recording's bytes are gone", reason="RECORDING_UNREADABLE"
            ) from None
        heard.usage.count(heard.engine)  # also of an answer that cannot be kept: it is paid for
        made = self._made(task, recording, identity, heard)
        if heard.engine == self._engine.name:  # another one stood in for it: it is asked the next time
            made = replace(made, result_key=key)
        stored = await self._transcripts.add(
            made, lambda conn: self._results.release(conn, task.tenant_id, key)
        )
        if stored is None:
            raise NotFound(recording_name(task.tenant_id, task.recording_id))
        took = (self._clock.now() - begun).total_seconds()
        _seconds.labels(heard.engine).observe(took)
        _sound.labels(heard.engine).inc(seconds)
        if stored.unreliable_reason:
            _unreliable.labels(heard.engine, stored.unreliable_reason).inc()
        log.info(
            "transcribed",
            tenant=task.tenant_id,
            recording=task.recording_id,
            seconds=round(took, 3),
            sound_seconds=seconds,
            engine=heard.engine,
            cost_micros=heard.usage.cost_micros,
            language=stored.language,
            segments=len(stored.segments),
            unreliable=stored.unreliable_reason,
        )
        self._usual_seconds = max(1.0, 0.8 * self._usual_seconds + 0.2 * took)
        return stored

    def _made(
        self, task: TranscriptionTask, recording: Recording, identity: str, heard: EngineResult
    ) -> Transcript:
        roles = task.channel_speakers or AGENT_THEN_CUSTOMER
        segments = [segment(speaker(item, heard.lanes, roles), item) for item in heard.segments]
        speakers = heard.speakers
        if speakers is None:
            speakers = len({(item.lane, item.voice) for item in heard.segments})
        return Transcript(
            tenant_id=task.tenant_id,
            transcript_id=identity,
            recording_id=task.recording_id,
            generation=task.generation,
            language=heard.language,
            speakers=speakers,
            channels=recording.channels,
            duration_us=recording.duration_us,
            speech_us=microseconds(heard.speech_seconds),
            confidence=_confidence(heard),
            unreliable_reason=heard.unreliable,
            engine=heard.engine,
            segments=segments,
            created_at=self._clock.now(),
            expire_at=expiry(task.expire_at, self._keep_days, self._clock.now()),
            language_confidence=heard.language_confidence,
            overruled_language=heard.overruled_language,
            usage=used(heard.usage),
            lanes=heard.lanes,
        )


def transcript_id(task: TranscriptionTask, sha256: str) -> str:
    """The id that the same bytes, language, roles and generation of a recording always have.

    No language is a task of its own: what is detected may differ from what any hint would give.
    """
    roles = ",".join(str(role) for role in task.channel_speakers or AGENT_THEN_CUSTOMER)
    return derived_id([task.recording_id, sha256, task.language.lower(), roles, str(task.generation)])


def result_key(task: TranscriptionTask, recording: Recording, engine: str) -> str:
    """The id of what an engine hears: of the same bytes, read in the same way, with the same options.

    Who speaks on which channel is no part of it. A higher generation is heard again.
    """
    options = [task.language.lower(), str(task.generation)]
    return derived_id([recording.sha256, recording.headerless, engine, *options])


def role(lane: int, roles: Sequence[int]) -> int:
    """Who speaks on a channel; `roles` are those of the channels."""
    return roles[lane] if lane < len(roles) else transcript_pb2.SPEAKER_UNSPECIFIED


def speaker(item: Segment, lanes: int, roles: Sequence[int]) -> int:
    """Who says a segment of a recording with so many lanes; `roles` are those of its channels."""
    if lanes > 1:
        return role(item.lane, roles)
    return VOICES[item.voice] if item.voice < len(VOICES) else transcript_pb2.SPEAKER_UNSPECIFIED


def _confidence(heard: EngineResult) -> float:
    known = [word.confidence for item in heard.segments for word in item.words if word.confidence is not None]
    return round(sum(known) / len(known), 4) if known else 0.0
