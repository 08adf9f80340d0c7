"""Degraded transcripts, made again once the engine that was wanted answers: a task for each, in the service's queue."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import timedelta

from sqlalchemy.engine import Connection
from trunkline_jobs.tasks import TaskKind, Tasks
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe import logs, metrics
from trunkline_store.clock import Clock
from trunkline_store.database import Database

from trunkline_audio.engines.base import SpeechEngine
from trunkline_audio.transcripts.rows import Transcript, Transcripts, settle
from trunkline_audio.transcripts.transcriber import Transcriber

log = logs.get_logger(__name__)

KIND = "improve_transcript"
AT_ONCE = 2
"""Degraded transcripts that one process makes again at a time, so that they never crowd out what callers wait for."""
LONGEST_PAUSE_SECONDS = 900.0
PATIENCE = timedelta(days=7)
"""After this time, a degraded transcript stays as it is."""

_improved = metrics.counter(
    "trunkline_transcripts_improved_total", "Degraded transcripts, by what became of them", ["outcome"]
)


class Improvement:
    """Has degraded transcripts made again, each at growing intervals, until the wanted engine answers or refuses."""

    def __init__(
        self,
        db: Database,
        tasks: Tasks,
        transcripts: Transcripts,
        engines: Mapping[str, SpeechEngine],
        retry_seconds: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Ask first after `retry_seconds`. An engine with a problem is asked by one transcript in that time."""
        self._db = db
        self._tasks = tasks
        self._transcripts = transcripts
        self._engines = engines
        self._retry_seconds = retry_seconds
        self._jitter = jitter
        self._clock: Clock = db.clock
        self._probed: dict[str, float] = {}

    def begin(self, transcript: Transcript, conn: Connection) -> None:
        """Put the task of a transcript that is kept in this transaction, if it is one that waits."""
        if transcript.again_at is not None:
            self._tasks.put(conn, KIND, transcript.transcript_id, tenant=transcript.tenant_id)

    def kind(self, transcriber: Transcriber) -> TaskKind:
        """Return the kind of task that `begin` puts."""

        async def work(tenant: str, transcript: str) -> float | None:
            return await self._advance(transcriber, tenant, transcript)

        return TaskKind(
            name=KIND,
            work=work,
            slots=AT_ONCE,
            failed=lambda conn, tenant, transcript, _reason: settle(conn, tenant, transcript),
        )

    async def _advance(self, transcriber: Transcriber, tenant: str, transcript: str) -> float | None:
        """Return the seconds until the next look, None when the transcript is good or stays as it is."""
        found = await self._transcripts.get(tenant, transcript)
        if found is None or found.again_at is None:
            return None
        age = self._clock.now() - found.again_at
        if age.total_seconds() < self._retry_seconds / 2:  # it was made a moment ago
            return self._pause(age)
        if age >= PATIENCE or found.wanted_engine not in self._engines:
            await self._settled(found, "given_up")
            return None
        if not self._may_probe(found.wanted_engine):
            return self._pause(age)
        try:
            await transcriber.improve(found)
        except TrunklineError as error:
            if error.transient:
                log.info("transcript_not_improved", tenant=tenant, transcript=transcript, reason=error.reason)
                return max(self._pause(age), error.retry_after or 0.0)
            if error.code.name == "ABORTED":  # its process died: that is not tried for ever
                raise
            await self._settled(found, "refused")
            return None
        _improved.labels("improved").inc()
        return None

    def _may_probe(self, name: str) -> bool:
        """Say whether an engine may be asked now: one with a problem heals by being asked, but not by all at once."""
        if not self._engines[name].problem:
            return True
        now = self._clock.now().timestamp()
        if now - self._probed.get(name, 0.0) < self._retry_seconds:
            return False
        self._probed[name] = now
        return True

    async def _settled(self, found: Transcript, outcome: str) -> None:
        await self._db.write(lambda conn: settle(conn, found.tenant_id, found.transcript_id))
        _improved.labels(outcome).inc()
        log.info("transcript_stays", tenant=found.tenant_id, transcript=found.transcript_id, outcome=outcome)

    def _pause(self, age: timedelta) -> float:
        # Often at first, then seldom, as degraded analyses are asked for by the pipeline.
        seconds = max(self._retry_seconds, age.total_seconds() / 4)
        return min(LONGEST_PAUSE_SECONDS, seconds) * (0.75 + 0.5 * self._jitter())
