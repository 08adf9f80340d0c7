"""The Whisper engine: faster-whisper on CTranslate2 in a process of its own, without a network."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from trunkline_runtime.digests import digest, letters
from trunkline_runtime.engines.base import NOT_READY, EngineError, EngineUsage
from trunkline_runtime.engines.fairness import FairLanes
from trunkline_runtime.observe import logs
from trunkline_runtime.resilience import Pauses

from trunkline_audio.engines import windows
from trunkline_audio.engines.base import EngineInput, EngineResult, Segment, SpeechCapabilities, Word
from trunkline_audio.engines.turns import joined
from trunkline_audio.engines.whisper import languages
from trunkline_audio.engines.whisper.repetition import without_loops
from trunkline_audio.engines.whisper.settings import WhisperSettings
from trunkline_audio.engines.windows import Window
from trunkline_audio.media.prepared import PreparedAudio, Utterance
from trunkline_audio.media.preprocess.timeline import RATE
from trunkline_audio.models.errors import ModelError
from trunkline_audio.models.lookup import default_folder, verify
from trunkline_audio.workers.pool import WorkerError, WorkerPool

log = logs.get_logger(__name__)

LONGEST_SECONDS = 29.8
"""Of a window, gaps included. Whisper hears 30 s at a time and pads what is shorter, at the price of 30."""
WINDOW_SECONDS = 600.0
"""Longest that one window may take once it has a lane: `base` takes a second, the largest models minutes."""
MANY_WINDOWS = 8
"""A lane: beyond that they are written in the order of time."""
MODEL_AGAIN_SECONDS = 5.0
"""How soon a model that is not there, or is damaged, is looked for again."""
MODEL_AGAIN_MOST_SECONDS = 60.0
"""How long the pauses between such looks grow: each look at a damaged model reads all of it."""
MISSED_SECONDS = 1.2
"""An utterance of at least this length, which is a second of speech and its margins, has words."""
LOW_CERTAINTY = 0.45
"""`certainty` below which a transcript is not to be relied on."""
CERTAINTY_FLOOR = 0.01
_KEY_LETTERS = 26


class WhisperEngine:
    """Writes a recording's speech window by window, as many at once as there are lanes.

    The model loads in the background. Until it is there for the first time calls wait; one that is missing or
    damaged is said once in the log, refused to callers as ENGINE_NOT_READY, and looked for again, so that
    fetching it heals the service without a restart. `find` proves a model whole, `make_pool` makes the process.
    """

    capabilities = SpeechCapabilities(detects_language=True, word_times=True)

    def __init__(
        self,
        settings: WhisperSettings,
        *,
        models_folder: Path | None = None,
        find: Callable[[str, Path], Path] = verify,
        make_pool: Callable[..., WorkerPool] = WorkerPool,
        again_seconds: float = MODEL_AGAIN_SECONDS,
    ) -> None:
        self._settings = settings
        self._models_folder = models_folder
        self._find = find
        self._make_pool = make_pool
        self._again_seconds = again_seconds
        self._lanes = settings.lanes or processors()
        self._fair = FairLanes(self._lanes)
        self._pool: WorkerPool | None = None
        self._warming: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._found = asyncio.Event()
        self._problem = ""
        model = settings.model.rstrip("/").rpartition("/")[2]
        self.name = f"whisper/{metadata.version('faster-whisper')} {model}"
        if settings.english:  # another text of the same sound: an engine of its own
            self.name += " english"
            self.capabilities = replace(self.capabilities, renders_english=True)

    @property
    def problem(self) -> str:
        """Why it cannot answer; empty once the model is loaded, or is being loaded for the first time."""
        if self._pool is None:
            return self._problem or "the model is being looked for"
        return (
            "" if self._pool.ready else "the speech process does not start: the service's log has its reason"
        )

    @property
    def pids(self) -> list[int]:
        """The process that holds the model, for metrics and benches."""
        return self._pool.pids if self._pool is not None else []

    async def __aenter__(self) -> Self:
        """Begin to look for the model and to load it; returns at once."""
        self._warming = asyncio.create_task(self._warm())
        return self

    async def wait_ready(self) -> None:
        """Waits until the model is loaded."""
        await self._found.wait()
        assert self._pool is not None
        await self._pool.wait_ready()

    async def __aexit__(self, *_: object) -> None:
        """Ends the process."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()

    async def transcribe(self, recording: EngineInput) -> EngineResult:
        """Transcribes a recording; its language is a hint that a confident detection overrules. Raises EngineError."""
        await self._looked.wait()
        if self._pool is None or self.problem:  # before a recording is decoded for nothing
            raise EngineError(NOT_READY, self.problem, transient=True)
        language = recording.language
        async with recording.prepared() as audio:
            heard = EngineResult(self.name, language, lanes=audio.lanes, speech_seconds=audio.speech_seconds)
            if not audio.utterances:
                return heard
            settings = self._settings
            writes = (self.name, settings.device, settings.compute_type, str(settings.beam))
            written = await _Listening(self._pool, self._fair, recording, audio, writes).written()
        heard = replace(heard, usage=EngineUsage(sum(window.seconds for window, _ in written)))
        if languages.code(language) not in ("", "en") and not any(reply["languages"] for _, reply in written):
            speakers = len({(item.lane, item.voice) for item in audio.utterances})
            return replace(heard, unreliable="language_not_supported", speakers=speakers)
        segments = [segment for window, reply in written for segment in _segments(window, reply)]
        # A window of noise has a likeliest language too.
        spoken = [(window, reply) for window, reply in written if reply["words"]]
        found = languages.verdict(
            language, [(reply["language"], window.seconds, _share(reply)) for window, reply in spoken]
        )
        rendered = [(window, reply) for window, reply in spoken if reply.get("english")]
        spoken_in = found.language
        if rendered:
            shares = [(reply["language"], window.seconds, _share(reply)) for window, reply in rendered]
            spoken_in = languages.verdict(language, shares).language
        return replace(
            heard,
            language="en" if rendered else found.language,
            translated_from=spoken_in if rendered else "",
            segments=joined(segments),
            unreliable="low_confidence" if segments and certainty(segments) < LOW_CERTAINTY else "",
            language_confidence=found.confidence,
            overruled_language=found.overruled,
        )

    async def _warm(self) -> None:
        settings = self._settings
        pauses = Pauses(self._again_seconds, MODEL_AGAIN_MOST_SECONDS, factor=1.5)
        while True:
            try:
                folder = self._models_folder or default_folder()
                path = await asyncio.to_thread(self._find, settings.model, folder)
                break
            except Exception as error:  # nobody awaits this task, and all calls wait for it
                problem = (
                    str(error) if isinstance(error, ModelError) else f"it cannot be looked at: {error!r}"
                )
                if self._problem != problem:
                    self._problem = problem
                    log.error(
                        "speech_model_not_usable",
                        setting="TRUNKLINE_AUDIO_WHISPER_MODEL",
                        model=settings.model,
                        problem=problem,
                    )
                self._looked.set()
                await pauses.rest()
        self._problem = ""
        self._pool = self._make_pool(
            "trunkline_audio.engines.whisper.listener:handler",
            size=1,
            lanes=self._lanes,
            name="speech",
            settings={
                "path": str(path),
                "device": settings.device,
                "compute_type": settings.compute_type,
                "lanes": self._lanes,
                "beam": settings.beam,
                "english": settings.english,
            },
        )
        self._pool.start()
        self._found.set()
        self._looked.set()


Written = list[tuple[Window, dict[str, Any]]]


class _Listening:
    """One recording on its way through the model."""

    def __init__(
        self,
        pool: WorkerPool,
        fair: FairLanes,
        recording: EngineInput,
        audio: PreparedAudio,
        writes: Sequence[str],
    ) -> None:
        """`writes` is all that decides what is written of a window, beside the request."""
        self._pool = pool
        self._writes = writes
        self._fair = fair
        self._recording = recording
        self._audio = audio
        self._wanted = languages.code(recording.language)
        self._phrases = list(recording.phrases)
        # A long recording always has windows that wait, and never all of them.
        self._waiting = asyncio.Semaphore(2 * pool.lanes)
        self._found: Mapping[str, Any] = {}
        self._speech_seconds = 0.0
        self._done_seconds = 0.0

    async def written(self) -> Written:
        """Each window with the worker's answer.

        Windows of uncertain language are written once those of the others are known. A window that holds more than
        the model can write is listened to in halves, and speech that it passed over without what surrounded it.
        """
        self._found = await self._recording.checkpoints.found()
        packed = windows.packed(self._audio.utterances, LONGEST_SECONDS)
        self._speech_seconds = sum(window.seconds for window in packed)
        first = await self._all(packed, {"wanted": self._wanted, "decide": len(packed) == 1})
        heard = [(window.seconds, reply["languages"]) for window, reply in first]
        language = languages.likeliest(heard, self._wanted)
        uncertain = [window for window, reply in first if not reply["language"]]
        decided = dict(await self._all(uncertain, {"language": language}))
        out = [(window, decided.get(window, reply)) for window, reply in first]
        cut = [window for window, reply in out if reply["cut"] and len(window.utterances) > 1]
        halves = [half for window in cut for half in window.halves()]
        out = [(window, reply) for window, reply in out if window not in cut]
        out += await self._all(halves, {"wanted": language, "decide": True})
        missed = windows.packed(
            [item for window, reply in out for item in _passed_over(window, reply)], LONGEST_SECONDS
        )
        return out + await self._all(missed, {"wanted": language, "decide": True})

    async def _all(self, packed: Sequence[Window], more: dict[str, Any]) -> Written:
        if len(packed) > MANY_WINDOWS * self._pool.lanes:
            order = sorted(packed, key=lambda window: window.utterances[0].start)  # as a watcher reads them
        else:
            order = sorted(packed, key=lambda window: -window.seconds)  # so that lanes end together
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {window: group.create_task(self._one(window, more)) for window in order}
        except* WorkerError as failures:
            failure = failures.exceptions[0]
            while isinstance(failure, ExceptionGroup):
                failure = failure.exceptions[0]
            assert isinstance(failure, WorkerError)
            raise EngineError(failure.reason, str(failure), transient=failure.transient) from None
        return [(window, tasks[window].result()) for window in packed]

    async def _one(self, window: Window, more: dict[str, Any]) -> dict[str, Any]:
        """What is written of a window: as an earlier attempt kept it, or now."""
        spans = [[item.start, item.end] for item in window.utterances]
        options = ",".join(f"{name}={value}" for name, value in sorted(more.items()))
        parts = (*self._writes, *self._phrases, str(window.lane), str(spans), options)
        key = letters(digest(*parts), _KEY_LETTERS)
        reply: dict[str, Any] | None = self._found.get(key)
        if reply is None:
            reply = await self._listened(window, {"spans": spans, **more})
            self._recording.checkpoints.keep(key, reply, self._final(window, reply), self._audio.lanes)
        if reply["language"]:
            self._done_seconds = min(self._speech_seconds, self._done_seconds + window.seconds)
            self._recording.checkpoints.reach(self._audio.seconds * self._done_seconds / self._speech_seconds)
        return reply

    def _final(self, window: Window, reply: dict[str, Any]) -> list[Segment]:
        """The segments of a window, unless they are written again, or thrown away for their language."""
        again = not reply["language"] or (reply["cut"] and len(window.utterances) > 1)
        other = self._wanted not in ("", "en") and not reply["languages"]
        return [] if again or other else _segments(window, reply)

    async def _listened(self, window: Window, more: dict[str, Any]) -> dict[str, Any]:
        phrases = {"phrases": self._phrases} if self._phrases else {}
        request = {"path": str(self._audio.lane(window.lane)), **phrases, **more}
        turn = self._fair.lane(self._recording.tenant_id, self._audio.scratch.name, self._recording.priority)
        async with self._waiting, turn:
            try:
                return await self._pool.run(request, seconds=WINDOW_SECONDS)
            except WorkerError as error:
                if error.reason != "WORKER_DIED":
                    raise
                # Another recording's window may have ended the process that all share.
                return await self._pool.run(request, seconds=WINDOW_SECONDS)


def processors() -> int:
    """How many processors this process may use: of those it may run on, as many as its control group pays for."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not a Linux
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such group, or "max"
        pass
    return count


def certainty(segments: Sequence[Segment]) -> float:
    """Geometric mean of the words' confidences: what gives nonsense away is how many words are near nought."""
    logs_ = [
        math.log(max(CERTAINTY_FLOOR, word.confidence))
        for segment in segments
        for word in segment.words
        if word.confidence is not None
    ]
    return math.exp(sum(logs_) / len(logs_)) if logs_ else 1.0


def _passed_over(window: Window, reply: dict[str, Any]) -> list[Utterance]:
    """Utterances without a word beside others that have some; where none has, nobody may have spoken at all."""
    with_words = {word[1] for word in reply["words"]}
    if not with_words:
        return []
    return [
        item
        for index, item in enumerate(window.utterances)
        if index not in with_words and item.end - item.start >= MISSED_SECONDS * RATE
    ]


def _segments(window: Window, reply: dict[str, Any]) -> list[Segment]:
    out = []
    for index, item in enumerate(window.utterances):
        mine = without_loops([word for word in reply["words"] if word[1] == index])
        if not mine:
            continue
        words = tuple(Word(text.strip(), start, end, sure) for text, _, start, end, sure in mine)
        text = "".join(text for text, *_ in mine).strip()
        out.append(Segment(item.lane, item.voice, words[0].start, words[-1].end, text, words))
    return out


def _share(reply: dict[str, Any]) -> float:
    return next((share for code, share in reply["languages"] if code == reply["language"]), 0.0)
