"""Makes transcripts: each once, a bounded number at a time, from an engine's answer to a row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, cast

from sqlalchemy.engine import Connection
from trunkline_runtime.engines.account import BUDGET_SPENT, Account
from trunkline_runtime.engines.base import EngineError, EngineUsage
from trunkline_runtime.errors import Aborted, FailedPrecondition, NotFound, ResourceExhausted
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe import logs, metrics, tracing
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_store.clock import Clock
from trunkline_store.records.expiry import expiry

from trunkline_audio.engines.base import (
    NO_CHECKPOINTS,
    Checkpoints,
    EngineResult,
    SpeechEngine,
    SubmittingEngine,
)
from trunkline_audio.engines.chain import TOO_LONG, Ask, ChainAnswer, EngineChain, is_crash
from trunkline_audio.engines.places import Guest, has_room
from trunkline_audio.engines.recording import RecordingFile
from trunkline_audio.media.blobs.base import BlobNotFound, Blobs
from trunkline_audio.media.preparation import Preparer
from trunkline_audio.media.prepared import RecordingFault
from trunkline_audio.names import LOWEST_CLASS, microseconds, recording_name
from trunkline_audio.recordings.receiver import unreadable
from trunkline_audio.recordings.rows import Recording
from trunkline_audio.transcripts.redaction import redacted
from trunkline_audio.transcripts.refusals import Refusals
from trunkline_audio.transcripts.results import Results
from trunkline_audio.transcripts.rows import Transcript, Transcripts, segment, used
from trunkline_audio.transcripts.speakers import role, speaker
from trunkline_audio.transcripts.submissions import SubmissionsAlone, SubmittedAgain, submitted
from trunkline_audio.transcripts.task import (
    TranscriptionTask,
    refusal_id,
    result_key,
    transcript_id,
    unredacted,
)

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
_in_hand = metrics.gauge(
    "trunkline_audio_in_hand_seconds", "Seconds of sound of the recordings that this process works on"
)

LONGEST_PAUSE_SECONDS = 30.0
_UNPAID_SECONDS = 900.0

CheckpointsOf: TypeAlias = Callable[[Recording, str], Checkpoints]
"""The checkpoints of a recording's transcript, by its id."""
Asking: TypeAlias = Callable[[Ask], Awaitable[ChainAnswer]]
"""Has an engine, or several, asked."""


def _none_of(recording: Recording, identity: str) -> Checkpoints:
    return NO_CHECKPOINTS


class Transcriber:
    """Has engines hear recordings, `at_once` of them at a time; a second request joins the first.

    The same sound is heard once, whichever recordings of a tenant it is in: the others take over what was heard.
    """

    def __init__(
        self,
        *,
        transcripts: Transcripts,
        results: Results,
        refusals: Refusals,
        blobs: Blobs,
        preparer: Preparer,
        engines: EngineChain,
        clock: Clock,
        at_once: int,
        keep_days: int = 0,
        pace: Pace = MACHINE,
        degraded: Callable[[Transcript, Connection], None] = lambda transcript, conn: None,
        account: Account | None = None,
    ) -> None:
        """`degraded` is told of a degraded transcript in the transaction that keeps it.

        Tenants are charged through the `account`, and engines that cost something aren't asked for those whose budget
        is spent.
        """
        self._transcripts = transcripts
        self._results = results
        self._refusals = refusals
        self._blobs = blobs
        self._preparer = preparer
        self._engines = engines
        self._clock = clock
        self._at_once = at_once
        self._keep_days = keep_days
        self._pace = pace
        self._degraded = degraded
        self._account = account
        self._guests: list[Guest] = []
        self._flights: Flights[str, Transcript] = Flights()
        self._usual_seconds = 1.0

    def check(self, engine: str, whose: str = "") -> None:
        """Raise InvalidArgument("engine") unless an engine of that name may be asked; empty is the service's choice.

        `whose` says in the message where the name comes from, if not from the request.
        """
        self._engines.chosen(engine, whose)

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
        self.check(task.engine)
        recording, found = await self._transcripts.find(
            task.tenant_id, task.recording_id, lambda of: transcript_id(task, of.sha256)
        )
        if recording is None:
            raise NotFound(recording_name(task.tenant_id, task.recording_id))
        if found is not None:
            return found
        identity = transcript_id(task, recording.sha256)
        return await self._flights.run(
            f"{task.tenant_id}/{identity}",
            lambda: self._taken_over_or_made(
                task, recording, identity, lambda: checkpoints_of(recording, identity)
            ),
            stops=stops,
        )

    async def improve(self, degraded: Transcript) -> Transcript | None:
        """Have the wanted engine make a degraded transcript again, and put it in its place; None if none waits there.

        Raises TrunklineError as `transcribe` does: RESOURCE_EXHAUSTED while recordings that callers wait for take all
        places.
        """
        task = TranscriptionTask.of(degraded, LOWEST_CLASS)
        recording, found = await self._transcripts.find(
            task.tenant_id, task.recording_id, lambda of: degraded.transcript_id
        )
        if recording is None or found is None or found.again_at is None:
            return None
        return await self._flights.run(
            f"{task.tenant_id}/{found.transcript_id}", lambda: self._improve(task, recording, found)
        )

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._flights.close()

    @contextmanager
    def _place(self, task: TranscriptionTask, recording: Recording) -> Iterator[None]:
        """Take one of the places for recordings that an engine listens to. Raises ResourceExhausted."""
        guest = Guest(task.tenant_id, recording.duration_us / 1e6, task.priority)
        if not has_room(self._at_once, guest, self._guests):
            raise ResourceExhausted(
                "the limit of recordings that are transcribed at once is reached",
                reason="ENGINES_BUSY",
                subject="recordings transcribed at once",
                retry_after=min(LONGEST_PAUSE_SECONDS, self._usual_seconds),
            )
        self._guests.append(guest)
        _in_hand.inc(guest.seconds)
        try:
            yield
        finally:
            _in_hand.dec(guest.seconds)
            self._guests.remove(guest)

    async def _taken_over_or_made(
        self,
        task: TranscriptionTask,
        recording: Recording,
        identity: str,
        checkpoints: Callable[[], Checkpoints],
    ) -> Transcript:
        engine = self._engines.chosen(task.engine)
        key = result_key(task, recording, engine)
        while True:
            standing = await self._results.standing(task.tenant_id, key)
            if standing.result is None and not standing.is_held and task.redacted:
                # What was stored before the tenant wanted placeholders isn't heard and paid for anew.
                plain = await self._results.standing(
                    task.tenant_id, result_key(unredacted(task), recording, engine)
                )
                if plain.result is not None:
                    return await self._take_over(task, recording, identity, key, plain.result)
            if standing.result is None and not standing.is_held:
                with self._place(task, recording):
                    claimed = await self._results.claim(task.tenant_id, key)
                    if claimed is None:
                        return await self._hold(task, recording, identity, key, checkpoints())
                standing = claimed
            if standing.result is not None:
                return await self._take_over(task, recording, identity, key, standing.result)
            await self._pace.sleep(self._results.look_seconds)

    async def _take_over(
        self, task: TranscriptionTask, recording: Recording, identity: str, key: str, earlier: Transcript
    ) -> Transcript:
        """Keep what was heard before of the same sound, with this recording's roles."""
        segments = earlier.segments
        if (earlier.lanes or 1) > 1:
            segments = [{**item, "speaker": role(item["channel"], task.roles)} for item in segments]
        if task.redacted and earlier.result_key != key:
            segments = await asyncio.to_thread(redacted, segments, task.redacted)
        made = replace(
            earlier,
            transcript_id=identity,
            recording_id=task.recording_id,
            segments=segments,
            created_at=self._clock.now(),
            expire_at=expiry(task.expire_at, self._keep_days, self._clock.now()),
            usage=None,
            result_key=key,
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

    async def _hold(
        self,
        task: TranscriptionTask,
        recording: Recording,
        identity: str,
        key: str,
        checkpoints: Checkpoints,
    ) -> Transcript:
        """Make a transcript while this process holds its result."""
        released = False
        try:
            async with self._results.held(task.tenant_id, key):
                made = await self._make(task, recording, identity, key, checkpoints)
            released = True
            return made
        finally:
            if not released:
                await self._results.give_up(task.tenant_id, key)

    async def _make(
        self,
        task: TranscriptionTask,
        recording: Recording,
        identity: str,
        key: str,
        checkpoints: Checkpoints,
    ) -> Transcript:
        async def asking(ask: Ask) -> ChainAnswer:
            ids = {name: refusal_id(task, recording, one) for name, one in self._engines.engines.items()}
            return await self._engines.answer(
                ask,
                seconds=recording.duration_us / 1e6,
                first=task.engine,
                submits=checkpoints.lasting,
                refusals={
                    **await self._refusals.known(task.tenant_id, ids),
                    **await self._unpaid(task.tenant_id),
                },
            )

        begun = self._clock.now()
        answer = await self._heard(task, recording, checkpoints, asking)
        made = await self._made(task, recording, identity, answer)

        def also(conn: Connection) -> None:
            self._results.release(conn, task.tenant_id, key)
            self._degraded(made, conn)

        stored = await self._transcripts.add(made, also)
        if stored is None:
            raise NotFound(recording_name(task.tenant_id, task.recording_id))
        self._told(stored, answer, begun)
        took = (self._clock.now() - begun).total_seconds()
        self._usual_seconds = max(1.0, 0.8 * self._usual_seconds + 0.2 * took)
        return stored

    async def _improve(
        self, task: TranscriptionTask, recording: Recording, degraded: Transcript
    ) -> Transcript:
        async def asking(ask: Ask) -> ChainAnswer:
            seconds = recording.duration_us / 1e6
            wanted = degraded.wanted_engine
            if (unpaid := (await self._unpaid(task.tenant_id)).get(wanted)) is not None:
                raise unpaid
            return ChainAnswer(await self._engines.ask_one(wanted, ask, seconds, submits=True))

        begun = self._clock.now()
        submits = self._engines.chosen(degraded.wanted_engine).capabilities.submits
        checkpoints = SubmittedAgain(self._transcripts, degraded) if submits else NO_CHECKPOINTS
        with self._place(task, recording):
            answer = await self._heard(task, recording, checkpoints, asking)
        made = await self._made(task, recording, degraded.transcript_id, answer)
        await self._transcripts.improve(made)
        self._told(made, answer, begun)
        return made

    async def _heard(
        self, task: TranscriptionTask, recording: Recording, checkpoints: Checkpoints, asking: Asking
    ) -> ChainAnswer:
        """Return what was heard, as `asking` has engines asked. Raises TrunklineError."""
        seconds = recording.duration_us / 1e6
        if task.redacted:
            checkpoints = SubmissionsAlone(checkpoints)
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
                    phrases=task.phrases,
                    priority=task.priority,
                    checkpoints=checkpoints,
                )

                async def ask(engine: SpeechEngine) -> EngineResult:
                    if seconds > engine.capabilities.longest_seconds:  # what fails there is submitted anew
                        return await submitted(cast(SubmittingEngine, engine), kept, self._pace)
                    try:
                        return await engine.transcribe(kept)
                    except RecordingFault:
                        raise
                    except EngineError as error:
                        if error.usage is not None:
                            await self._paid(task, engine.name, error.usage)
                        if not error.transient:
                            refusal = refusal_id(task, recording, engine)
                            await self._refusals.keep(task.tenant_id, refusal, error)
                        raise

                answer = await asking(ask)
        except EngineError as error:
            if error.reason == BUDGET_SPENT:
                raise _unpaid(task) from None
            if is_crash(error):
                # A recording that ends its process each time is not tried for ever: this spends attempts.
                raise Aborted(str(error), reason=error.reason) from None
            raise unreadable(error, error.reason if error.reason == TOO_LONG else "") from None
        except BlobNotFound:
            raise FailedPrecondition(
                "the recording's bytes are gone", reason="RECORDING_UNREADABLE"
            ) from None
        await self._paid(task, answer.result.engine, answer.result.usage)
        return answer

    async def _paid(self, task: TranscriptionTask, engine: str, usage: EngineUsage) -> None:
        """Count and charge what was paid for, also where nothing can be kept of it."""
        usage.count(engine)
        if self._account is not None:
            await self._account.charge(task.tenant_id, engine, usage)

    async def _unpaid(self, tenant: str) -> dict[str, EngineError]:
        """Return the refusals of engines that the tenant's budget has no money for, by their names in the chain."""
        return {} if self._account is None else await self._account.refusals(tenant, self._engines.engines)

    def _told(self, stored: Transcript, answer: ChainAnswer, begun: datetime) -> None:
        heard = answer.result
        took = (self._clock.now() - begun).total_seconds()
        seconds = stored.duration_us / 1e6
        _seconds.labels(heard.engine).observe(took, tracing.exemplar())
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

    async def _made(
        self, task: TranscriptionTask, recording: Recording, identity: str, answer: ChainAnswer
    ) -> Transcript:
        heard, waits = answer.result, bool(answer.wanted) and not answer.final
        chosen = self._engines.chosen(task.engine)
        segments = [segment(speaker(item, heard.lanes, task.roles), item) for item in heard.segments]
        if task.redacted:
            segments = await asyncio.to_thread(redacted, segments, task.redacted)
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
            translated_from=heard.translated_from,
            usage=used(heard.usage),
            # Where another engine stood in, the chosen one is asked the next time.
            result_key=result_key(task, recording, chosen) if heard.engine == chosen.name else None,
            lanes=heard.lanes,
            wanted_engine=answer.wanted,
            degraded_reason=answer.reason[:64],
            again_at=self._clock.now() if waits else None,
            asked=task.asked if waits else None,
        )


def _unpaid(task: TranscriptionTask) -> ResourceExhausted:
    return ResourceExhausted(
        "the tenant's budget is spent, and every engine costs something; it begins anew with the month",
        reason=BUDGET_SPENT,
        subject=f"tenants/{task.tenant_id}",
        retry_after=_UNPAID_SECONDS,
    )


def _confidence(heard: EngineResult) -> float:
    known = [word.confidence for item in heard.segments for word in item.words if word.confidence is not None]
    return round(sum(known) / len(known), 4) if known else 0.0
