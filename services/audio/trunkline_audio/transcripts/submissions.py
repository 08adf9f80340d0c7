"""Recordings whose provider transcribes them in its own time: handed over once, asked about until the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.observe import logs
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.resilience import Pauses
from trunkline_store import StoreError

from trunkline_audio.engines.base import (
    Checkpoints,
    EngineInput,
    EngineResult,
    Segment,
    SpeechEngine,
    Submission,
    SubmittingEngine,
)
from trunkline_audio.transcripts.rows import SUBMITTED, Transcript, Transcripts

log = logs.get_logger(__name__)

FIRST_POLL_SECONDS = 1.0
MOST_POLL_SECONDS = 15.0
CANCEL_SECONDS = 5.0
_KEY = "submission/"


class SubmittedAgain:
    """The checkpoints of a degraded transcript that is made again: what its provider was handed, in its own row.

    A transcript is made again without an operation, so nobody watches it, and only the provider's name for it counts.
    """

    lasting = True

    def __init__(self, transcripts: Transcripts, degraded: Transcript) -> None:
        self._transcripts = transcripts
        self._degraded = degraded
        self._kept: dict[str, Any] = dict((degraded.asked or {}).get(SUBMITTED, {}))

    async def found(self) -> Mapping[str, Any]:
        """What an earlier attempt handed over."""
        return dict(self._kept)

    def keep(self, key: str, value: Any, segments: Sequence[Segment] = (), lanes: int = 1) -> None:
        """Have a value kept when it is `written`."""
        self._kept[key] = value

    def reach(self, seconds: float) -> None:
        """Nobody watches."""

    async def written(self) -> None:
        """Write what is to be kept. Raises StoreError."""
        await self._transcripts.note_submitted(self._degraded, self._kept)

    async def drop(self, key: str) -> None:
        """Keep a value no longer. Raises StoreError."""
        if self._kept.pop(key, None) is not None:
            await self.written()


class SubmissionsAlone:
    """Checkpoints that keep what providers were handed, and how far a recording is, but no word of it."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self.lasting = checkpoints.lasting

    async def found(self) -> Mapping[str, Any]:
        """What an earlier attempt handed over."""
        found = await self._checkpoints.found()
        return {key: value for key, value in found.items() if key.startswith(_KEY)}

    def keep(self, key: str, value: Any, segments: Sequence[Segment] = (), lanes: int = 1) -> None:
        """Have a submission kept; what else an engine would keep holds words."""
        if key.startswith(_KEY):
            self._checkpoints.keep(key, value)

    def reach(self, seconds: float) -> None:
        """Tell how far it is."""
        self._checkpoints.reach(seconds)

    async def written(self) -> None:
        """Write what is to be kept. Raises StoreError."""
        await self._checkpoints.written()

    async def drop(self, key: str) -> None:
        """Keep a value no longer. Raises StoreError."""
        await self._checkpoints.drop(key)


async def submitted(engine: SubmittingEngine, recording: EngineInput, pace: Pace) -> EngineResult:
    """Return what the provider heard, once it has ended. Raises EngineError, and what the store says.

    The provider's name for it is kept as a checkpoint, so a further attempt asks about the same submission. Interval:
    `submissions.poll`, the first pause between two questions.
    """
    key = _KEY + engine.name
    found = (await recording.checkpoints.found()).get(key)
    name = found["name"] if found else await _hand_over(engine, recording, key)
    first = pace.interval("submissions.poll", FIRST_POLL_SECONDS)
    pauses = Pauses(first, first * MOST_POLL_SECONDS / FIRST_POLL_SECONDS, factor=1.5)
    while True:
        told = await _asked(engine, recording, key, name)
        recording.checkpoints.reach(told.seconds)
        if told.result is not None:
            return told.result
        await pauses.rest(pace.sleep)


def name_of(engine: SpeechEngine, found: Mapping[str, Any]) -> str:
    """Return the provider's name among what was kept; empty when nothing was submitted to this engine."""
    kept = found.get(_KEY + engine.name)
    return "" if kept is None else str(kept["name"])


async def given_up(engine: SubmittingEngine, name: str) -> None:
    """Have the provider stop; a failure is logged, and costs what the provider takes for the rest."""
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await engine.cancel(name)
    except (EngineError, TimeoutError) as error:
        log.warning("submission_not_cancelled", engine=engine.name, problem=str(error))


async def _hand_over(engine: SubmittingEngine, recording: EngineInput, key: str) -> str:
    submitting = asyncio.create_task(engine.submit(recording))
    try:
        name = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        # Its name would be lost, and the provider would go on for nobody.
        await _forsaken(engine, submitting)
        raise
    recording.checkpoints.keep(key, {"name": name})
    writing = asyncio.create_task(recording.checkpoints.written())
    try:
        await asyncio.shield(writing)
    except StoreError:  # the operation is another's, or nobody's
        await given_up(engine, name)
        raise
    except asyncio.CancelledError:
        await asyncio.wait((writing,), timeout=CANCEL_SECONDS)
        if not writing.done() or writing.cancelled() or writing.exception() is not None:
            await given_up(engine, name)
        raise
    return name


async def _forsaken(engine: SubmittingEngine, submitting: asyncio.Task[str]) -> None:
    await asyncio.wait((submitting,), timeout=CANCEL_SECONDS)
    if not submitting.done():
        submitting.cancel()
    elif not submitting.cancelled() and submitting.exception() is None:
        await given_up(engine, submitting.result())


async def _asked(engine: SubmittingEngine, recording: EngineInput, key: str, name: str) -> Submission:
    try:
        return await engine.poll(name)
    except EngineError as error:
        if not error.transient:  # whoever asks for the transcript again has it submitted anew
            await given_up(engine, name)  # of several files the others may still run
            await recording.checkpoints.drop(key)
        raise
