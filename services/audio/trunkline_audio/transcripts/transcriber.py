"""Makes transcripts: each once, a bounded number at a time, from an engine's answer to a row."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection
from trunkline.audio.v1 import transcript_pb2
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors import Aborted, FailedPrecondition, NotFound, ResourceExhausted
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe import logs, metrics
from trunkline_store.clock import Clock
from trunkline_store.records.expiry import expiry

from trunkline_audio.engines.base import EngineResult, RecordingFault, Segment, SpeechEngine
from trunkline_audio.engines.chain import TOO_LONG, Ask, ChainAnswer, EngineChain, is_crash
from trunkline_audio.media.blobs import BlobNotFound, Blobs
from trunkline_audio.media.preparation import Preparer, RecordingFile
from trunkline_audio.names import derived_id, microseconds, recording_name
from trunkline_audio.recordings.receiver import unreadable
from trunkline_audio.recordings.rows import Recording
from trunkline_audio.transcripts.refusals import Refusals
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
    engine: str = ""
    """The engine to ask first, by its name in the setting; empty: the first one there."""
    phrases: tuple[str, ...] = ()
    """Words that are likely to be said."""
    expire_at: datetime | None = None
    """When it is deleted; None: as the service is set to."""

    @property
    def asked(self) -> dict[str, Any]:
        """What a degraded transcript keeps, so that it can be made again; `of` reads it."""
        return {
            "language": self.language,
            "speakers": list(self.channel_speakers),
            "engine": self.engine,
            "phrases": list(self.phrases),
        }

    @classmethod
    def of(cls, degraded: Transcript) -> TranscriptionTask:
        """Return the task that a degraded transcript was made for."""
        asked = degraded.asked or {}
        return cls(
            tenant_id=degraded.tenant_id,
            recording_id=degraded.recording_id,
            language=asked.get("language", ""),
            channel_speakers=tuple(asked.get("speakers", ())),
            generation=degraded.generation,
            engine=asked.get("engine", ""),
            phrases=tuple(asked.get("phrases", ())),
            expire_at=degraded.expire_at,
        )


class Transcriber:
    """Runs the engine over recordings, `at_once` of them at a time; a second request joins the first."""

    def __init__(
        self,
        *,
        transcripts: Transcripts,
        refusals: Refusals,
        blobs: Blobs,
        preparer: Preparer,
        engines: EngineChain,
        clock: Clock,
        at_once: int,
        keep_days: int = 0,
        degraded: Callable[[Transcript, Connection], None] = lambda transcript, conn: None,
    ) -> None:
        """`degraded` is told of a degraded transcript in the transaction that keeps it."""
        self._degraded = degraded
        self._transcripts = transcripts
        self._refusals = refusals
        self._blobs = blobs
        self._preparer = preparer
        self._engines = engines
        self._clock = clock
        self._at_once = at_once
        self._keep_days = keep_days
        self._flights: Flights[str, Transcript] = Flights()
        self._usual_seconds = 1.0

    def check(self, engine: str) -> None:
        """Raise InvalidArgument("engine") unless an engine of that name may be asked; empty is the service's choice."""
        self._engines.chosen(engine)

    async def transcribe(self, task: TranscriptionTask) -> Transcript:
        """The transcript, made unless it is there. Raises TrunklineError as CreateTranscript documents."""
        self.check(task.engine)
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
            raise _engines_busy(self._usual_seconds)
        return await self._flights.run(key, lambda: self._transcribe(task, recording, identity))

    def _busy(self, tenant_id: str) -> bool:
        mine = sum(key.startswith(f"{tenant_id}/") for key in self._flights)
        return len(self._flights) >= self._at_once or mine >= math.ceil(self._at_once * TENANTS_SHARE)

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._flights.close()

    async def improve(self, degraded: Transcript) -> Transcript | None:
        """Have the wanted engine make a degraded transcript again, and put it in its place; None if none waits there.

        Raises TrunklineError as `transcribe` does: RESOURCE_EXHAUSTED while recordings that callers wait for take all
        places.
        """
        task = TranscriptionTask.of(degraded)
        recording, found = await self._transcripts.find(
            task.tenant_id, task.recording_id, lambda of: degraded.transcript_id
        )
        if recording is None or found is None or found.again_at is None:
            return None
        if len(self._flights) >= self._at_once - 1 and len(self._flights) > 0:
            raise _engines_busy(self._usual_seconds)
        return await self._flights.run(
            f"{task.tenant_id}/{found.transcript_id}", lambda: self._improve(task, recording, found)
        )

    async def _improve(
        self, task: TranscriptionTask, recording: Recording, degraded: Transcript
    ) -> Transcript:
        async def answer(ask: Ask) -> ChainAnswer:
            return ChainAnswer(
                await self._engines.ask_one(degraded.wanted_engine, ask, recording.duration_us / 1e6)
            )

        begun = self._clock.now()
        heard = await self._heard(task, recording, answer)
        made = self._made(task, recording, degraded.transcript_id, heard)
        await self._transcripts.improve(made)
        self._told(made, heard, begun)
        return made

    async def _transcribe(self, task: TranscriptionTask, recording: Recording, identity: str) -> Transcript:
        async def answer(ask: Ask) -> ChainAnswer:
            ids = {
                name: refusal_id(task, recording.sha256, one) for name, one in self._engines.engines.items()
            }
            return await self._engines.answer(
                ask,
                seconds=recording.duration_us / 1e6,
                first=task.engine,
                refusals=await self._refusals.known(task.tenant_id, ids),
            )

        begun = self._clock.now()
        heard = await self._heard(task, recording, answer)
        made = self._made(task, recording, identity, heard)
        stored = await self._transcripts.add(made, partial(self._degraded, made))
        if stored is None:
            raise NotFound(recording_name(task.tenant_id, task.recording_id))
        self._told(stored, heard, begun)
        self._usual_seconds = max(
            1.0, 0.8 * self._usual_seconds + 0.2 * (self._clock.now() - begun).total_seconds()
        )
        return stored

    async def _heard(
        self,
        task: TranscriptionTask,
        recording: Recording,
        answer: Callable[[Ask], Awaitable[ChainAnswer]],
    ) -> ChainAnswer:
        """Return what was heard, as `answer` has an engine or several asked. Raises TrunklineError."""
        try:
            async with self._blobs.local(recording.blob_key) as path:
                kept = RecordingFile(
                    path,
                    self._preparer,
                    tenant_id=task.tenant_id,
                    language=task.language,
                    seconds=recording.duration_us / 1e6,
                    channels=recording.channels,
                    headerless=recording.headerless,
                    phrases=task.phrases,
                )

                async def ask(engine: SpeechEngine) -> EngineResult:
                    try:
                        return await engine.transcribe(kept)
                    except RecordingFault:
                        raise
                    except EngineError as error:
                        if not error.transient:
                            refusal = refusal_id(task, recording.sha256, engine)
                            await self._refusals.keep(task.tenant_id, refusal, error)
                        raise

                heard = await answer(ask)
        except EngineError as error:
            if is_crash(error):
                # A recording that ends its process each time is not tried for ever: this spends attempts.
                raise Aborted(str(error), reason=error.reason) from None
            raise unreadable(error, error.reason if error.reason == TOO_LONG else "") from None
        except BlobNotFound:
            raise FailedPrecondition(
                "the recording's bytes are gone", reason="RECORDING_UNREADABLE"
            ) from None
        heard.result.usage.count(heard.result.engine)  # also of an answer that cannot be kept: it is paid for
        return heard

    def _told(self, stored: Transcript, answer: ChainAnswer, begun: datetime) -> None:
        heard = answer.result
        took = (self._clock.now() - begun).total_seconds()
        seconds = stored.duration_us / 1e6
        _seconds.labels(heard.engine).observe(took)
        _sound.labels(heard.engine).inc(seconds)
        if stored.unreliable_reason:
            _unreliable.labels(heard.engine, stored.unreliable_reason).inc()
        log.info(
            "transcribed",
            tenant=stored.tenant_id,
            recording=stored.recording_id,
            seconds=round(took, 3),
            sound_seconds=seconds,
            engine=heard.engine,
            cost_micros=heard.usage.cost_micros,
            language=stored.language,
            segments=len(stored.segments),
            unreliable=stored.unreliable_reason,
            wanted_engine=answer.wanted,
        )

    def _made(
        self, task: TranscriptionTask, recording: Recording, identity: str, answer: ChainAnswer
    ) -> Transcript:
        heard, waits = answer.result, bool(answer.wanted) and not answer.final
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
            wanted_engine=answer.wanted,
            again_at=self._clock.now() if waits else None,
            asked=task.asked if waits else None,
        )


def _engines_busy(usual_seconds: float) -> ResourceExhausted:
    return ResourceExhausted(
        "the limit of recordings that are transcribed at once is reached",
        reason="ENGINES_BUSY",
        subject="recordings transcribed at once",
        retry_after=min(LONGEST_PAUSE_SECONDS, usual_seconds),
    )


def transcript_id(task: TranscriptionTask, sha256: str) -> str:
    """The id that the same bytes, language, roles, generation and chosen engine of a recording always have.

    No language is a task of its own: what is detected may differ from what any hint would give. Phrases
    are not part of it: a tenant that changes them does not pay for its recordings anew.
    """
    roles = ",".join(str(role) for role in task.channel_speakers or AGENT_THEN_CUSTOMER)
    parts = [task.recording_id, sha256, task.language.lower(), roles, str(task.generation)]
    return derived_id([*parts, f"engine {task.engine}"] if task.engine else parts)


def refusal_id(task: TranscriptionTask, sha256: str, engine: SpeechEngine) -> str:
    """The id of an engine's refusal of the same bytes and options; a forced replay asks again."""
    asked = [task.language.lower(), str(task.generation), *task.phrases]
    return derived_id([sha256, engine.name, *asked])


def _speaker(item: Segment, lanes: int, roles: Sequence[int]) -> int:
    if lanes > 1:
        return roles[item.lane] if item.lane < len(roles) else transcript_pb2.SPEAKER_UNSPECIFIED
    return VOICES[item.voice] if item.voice < len(VOICES) else transcript_pb2.SPEAKER_UNSPECIFIED


def _confidence(heard: EngineResult) -> float:
    known = [word.confidence for item in heard.segments for word in item.words if word.confidence is not None]
    return round(sum(known) / len(known), 4) if known else 0.0
