"""Makes transcripts: each once, a bounded number at a time, from an engine's answer to a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from trunkline.audio.v1 import transcript_pb2
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors import Aborted, FailedPrecondition, NotFound, ResourceExhausted
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe import logs, metrics
from trunkline_store.clock import Clock
from trunkline_store.records.expiry import expiry

from trunkline_audio.engines.base import EngineResult, Segment, SpeechEngine
from trunkline_audio.media.blobs import BlobNotFound, Blobs
from trunkline_audio.media.preparation import Preparer, RecordingFile
from trunkline_audio.names import derived_id, microseconds, recording_name
from trunkline_audio.recordings.receiver import unreadable
from trunkline_audio.recordings.rows import Recording
from trunkline_audio.transcripts.rows import Transcript, Transcripts, segment, used

log = logs.get_logger(__name__)

_seconds = metrics.histogram(
    "trunkline_audio_transcription_seconds", "Seconds a transcription took", ["engine"]
)
_sound = metrics.counter("trunkline_audio_sound_seconds_total", "Seconds of sound transcribed", ["engine"])
_unreliable = metrics.counter(
    "trunkline_audio_unreliable_total", "Transcripts that cannot be relied on", ["engine", "reason"]
)

TENANTS_SHARE = 0.75
"""Of the places for recordings: the rest is left to others, however many hours of sound one tenant brings."""
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


class Transcriber:
    """Runs the engine over recordings, `at_once` of them at a time; a second request joins the first."""

    def __init__(
        self,
        *,
        transcripts: Transcripts,
        blobs: Blobs,
        preparer: Preparer,
        engine: SpeechEngine,
        clock: Clock,
        at_once: int,
        keep_days: int = 0,
    ) -> None:
        self._transcripts = transcripts
        self._blobs = blobs
        self._preparer = preparer
        self._engine = engine
        self._clock = clock
        self._at_once = at_once
        self._keep_days = keep_days
        self._flights: Flights[str, Transcript] = Flights()
        self._usual_seconds = 1.0

    async def transcribe(self, task: TranscriptionTask) -> Transcript:
        """The transcript, made unless it is there. Raises TrunklineError as CreateTranscript documents."""
        recording, found = await self._transcripts.find(
            task.tenant_id, task.recording_id, lambda of: transcript_id(task, of.sha256)
        )
        if recording is None:
            raise NotFound(recording_name(task.tenant_id, task.recording_id))
        if found is not None:
            return found
        identity = transcript_id(task, recording.sha256)
        key = f"{task.tenant_id}/{identity}"
        if key not in self._flights and self._busy(task.tenant_id):
            raise ResourceExhausted(
                "the limit of recordings that are transcribed at once is reached",
                reason="ENGINES_BUSY",
                subject="recordings transcribed at once",
                retry_after=min(LONGEST_PAUSE_SECONDS, self._usual_seconds),
            )
        return await self._flights.run(key, lambda: self._transcribe(task, recording, identity))

    def _busy(self, tenant_id: str) -> bool:
        mine = sum(key.startswith(f"{tenant_id}/") for key in self._flights)
        return len(self._flights) >= self._at_once or mine >= math.ceil(self._at_once * TENANTS_SHARE)

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._flights.close()

    async def _transcribe(self, task: TranscriptionTask, recording: Recording, identity: str) -> Transcript:
        begun = self._clock.now()
        seconds, most = recording.duration_us / 1e6, self._engine.capabilities.longest_seconds
        if seconds > most:
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
                )
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
        stored = await self._transcripts.add(made)
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
        segments = [segment(_speaker(item, heard.lanes, roles), item) for item in heard.segments]
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
        )


def transcript_id(task: TranscriptionTask, sha256: str) -> str:
    """The id that the same bytes, language, roles and generation of a recording always have.

    No language is a task of its own: what is detected may differ from what any hint would give.
    """
    roles = ",".join(str(role) for role in task.channel_speakers or AGENT_THEN_CUSTOMER)
    return derived_id([task.recording_id, sha256, task.language.lower(), roles, str(task.generation)])


def _speaker(item: Segment, lanes: int, roles: Sequence[int]) -> int:
    if lanes > 1:
        return roles[item.lane] if item.lane < len(roles) else transcript_pb2.SPEAKER_UNSPECIFIED
    return VOICES[item.voice] if item.voice < len(VOICES) else transcript_pb2.SPEAKER_UNSPECIFIED


def _confidence(heard: EngineResult) -> float:
    known = [word.confidence for item in heard.segments for word in item.words if word.confidence is not None]
    return round(sum(known) / len(known), 4) if known else 0.0
