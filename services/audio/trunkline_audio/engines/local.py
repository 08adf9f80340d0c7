"""The local engine: PocketSphinx with its bundled US English model, on all cores, without a network."""

from __future__ import annotations

import asyncio
import math
import os
from importlib import metadata

from trunkline_audio.engines.base import (
    EngineError,
    EngineResult,
    PreparedAudio,
    Segment,
    Source,
    Utterance,
    Word,
)
from trunkline_audio.engines.turns import joined
from trunkline_audio.preprocess.timeline import RATE
from trunkline_audio.workers.pool import WorkerError, WorkerPool

LANGUAGE = "en-US"
LOW_CERTAINTY = 0.16
"""`certainty` below which an answer is not to be relied on.

Measured on telephone speech: Spanish, French and German heard as English .10 to .14, English from .19 on. The
arithmetic mean does not tell them apart (.30 to .36 against .38 on).
"""
CERTAINTY_FLOOR = 0.001

UTTERANCE_SECONDS = 300.0
"""Longest that one utterance may take, waiting for a free process included."""


class LocalEngine:
    """Decodes a recording's utterances in parallel, each recording taking no more than its turn.

    Honest about what it cannot do: speech that is not English is not transcribed, and words it is not sure of
    make the whole answer unreliable.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self.name = f"pocketsphinx/{metadata.version('pocketsphinx')}"

    @property
    def ready(self) -> bool:
        """Whether it answers: a model is loaded, or is being loaded for the first time."""
        return self._pool.ready

    def start(self) -> None:
        """Begins to load the model, once a process."""
        self._pool.start()

    async def close(self) -> None:
        """Ends the processes."""
        await self._pool.close()

    async def transcribe(self, source: Source, language: str) -> EngineResult:
        """Transcribes English; any other language gets `language_not_supported` and no words."""
        async with source.prepared() as audio:
            if not is_english(language):
                return EngineResult(
                    language=language,
                    lanes=audio.lanes,
                    speech_seconds=audio.speech_seconds,
                    unreliable="language_not_supported" if audio.utterances else "",
                    speakers=len({(item.lane, item.voice) for item in audio.utterances}),
                )
            segments = await self._segments(audio)
        words = [word for segment in segments for word in segment.words]
        return EngineResult(
            language=LANGUAGE,
            segments=joined(segments),
            lanes=audio.lanes,
            speech_seconds=audio.speech_seconds,
            unreliable="low_confidence" if words and certainty(words) < LOW_CERTAINTY else "",
        )

    async def _segments(self, audio: PreparedAudio) -> list[Segment]:
        # No more in flight than there are processes: recordings that wait side by side take turns.
        turns = asyncio.Semaphore(self._pool.size)
        # The longest first, so that the cores end together.
        order = sorted(audio.utterances, key=lambda item: item.start - item.end)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._hear(audio, item, turns)) for item in order]
        except* WorkerError as failures:
            failure = failures.exceptions[0]
            while isinstance(failure, ExceptionGroup):
                failure = failure.exceptions[0]
            assert isinstance(failure, WorkerError)
            raise EngineError(failure.reason, str(failure), transient=failure.transient) from None
        return [segment for task in tasks if (segment := task.result()) is not None]

    async def _hear(self, audio: PreparedAudio, item: Utterance, turns: asyncio.Semaphore) -> Segment | None:
        request = {"path": str(audio.lane(item.lane)), "start": item.start, "end": item.end}
        async with turns:
            reply = await self._pool.run(request, seconds=UTTERANCE_SECONDS)
        words = tuple(
            Word(text, item.start / RATE + start, item.start / RATE + end, confidence)
            for text, start, end, confidence in reply["words"]
        )
        if not words:
            return None
        text = " ".join(word.text for word in words)
        return Segment(item.lane, item.voice, words[0].start, words[-1].end, text, words)


def is_english(language: str) -> bool:
    """Whether a BCP 47 tag names English; empty means that nobody said otherwise."""
    return not language or language.replace("_", "-").split("-")[0].lower() == "en"


def certainty(words: list[Word]) -> float:
    """Geometric mean of the words' confidences: what gives nonsense away is how many words are near nought."""
    logs = [math.log(max(CERTAINTY_FLOOR, word.confidence)) for word in words if word.confidence is not None]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0


def create(workers: int = 0) -> LocalEngine:
    """The engine with `workers` processes, 0 for one a core."""
    size = workers or os.cpu_count() or 1
    return LocalEngine(WorkerPool("trunkline_audio.engines.pocketsphinx:handler", size=size, name="speech"))
