"""What a speech engine is: the interface and the values that cross it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trunkline_runtime.engines.base import Engine, EngineUsage

from trunkline_audio.media.prepared import PreparedAudio


class Checkpoints(Protocol):
    """What an engine finished of a recording: the next attempt takes it up, also in another process."""

    @property
    def lasting(self) -> bool:
        """Whether anything is kept; otherwise the next attempt begins anew."""

    async def found(self) -> Mapping[str, Any]:
        """What earlier attempts kept, by key."""

    def keep(self, key: str, value: Any, segments: Sequence[Segment] = (), lanes: int = 1) -> None:
        """Have a JSON value kept soon, for good under its key, with the segments that are final by it."""

    def reach(self, seconds: float) -> None:
        """Tell how many seconds of the recording are done."""

    async def written(self) -> None:
        """Wait until the store has all that was to be kept. Raises what the store says."""

    async def drop(self, key: str) -> None:
        """Keep a value no longer."""


class _NoCheckpoints:
    """Keeps nothing."""

    lasting = False

    async def found(self) -> Mapping[str, Any]:
        return {}

    def keep(self, key: str, value: Any, segments: Sequence[Segment] = (), lanes: int = 1) -> None:
        pass

    def reach(self, seconds: float) -> None:
        pass

    async def written(self) -> None:
        pass

    async def drop(self, key: str) -> None:
        pass


NO_CHECKPOINTS: Checkpoints = _NoCheckpoints()
"""Of a recording that is transcribed within one request."""


class EngineInput(Protocol):
    """A recording as an engine gets it; decoding happens only for an engine that asks."""

    @property
    def tenant_id(self) -> str:
        """Whose it is: engines share themselves fairly among tenants."""

    @property
    def priority(self) -> int:
        """Its class, 0 (realtime), 1 (batch), or 2 (background): a lower number goes first."""

    @property
    def checkpoints(self) -> Checkpoints:
        """What is finished of it. An engine that takes long keeps what it would not do again."""

    @property
    def language(self) -> str:
        """What its speakers are said to use, BCP 47; empty when nobody said so."""

    @property
    def phrases(self) -> tuple[str, ...]:
        """Words that are likely to be said in it, the most important first: at most 500, of 100 characters each."""

    @property
    def seconds(self) -> float:
        """Length of the recording."""

    @property
    def channels(self) -> int:
        """Its channels as they came."""

    @property
    def path(self) -> Path:
        """The recording's bytes as they came, for engines that decode themselves."""

    def prepared(self) -> AbstractAsyncContextManager[PreparedAudio]:
        """Decodes it and finds its speech; the files are gone when the block ends."""


@dataclass(frozen=True)
class Word:
    """One word; times in seconds of the recording, confidence 0 to 1 or None when the engine gives none."""

    text: str
    start: float
    end: float
    confidence: float | None = None


@dataclass(frozen=True)
class Segment:
    """One stretch of speech of one speaker; `text` stands for itself where an engine gives no words.

    `voice` is 1 to 3 on one channel, 0 when not told apart.
    """

    lane: int
    voice: int
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class EngineResult:
    """What an engine heard. `unreliable` is empty or the reason why it cannot be relied on.

    `engine` is the name of the one that answered. `language` is the one that was spoken, BCP 47, `language_confidence`
    how sure the engine is of it, 0 to 1, and 0 when it did not ask; `overruled_language` is the language that was asked
    for, when another one was heard.
    """

    engine: str
    language: str
    segments: tuple[Segment, ...] = ()
    lanes: int = 1
    speech_seconds: float = 0.0
    unreliable: str = ""
    language_confidence: float = 0.0
    overruled_language: str = ""
    speakers: int | None = field(default=None)
    """How many speak, where the engine knows better than its segments tell."""
    usage: EngineUsage = field(default_factory=EngineUsage)
    translated_from: str = ""
    """The language that was spoken, BCP 47, where the text is an English rendering of it; `language` is `en` then."""


@dataclass(frozen=True)
class SpeechCapabilities:
    """What a speech engine can do. Nothing else is asked of it; the conformance suite holds it to each."""

    longest_seconds: float = math.inf
    """The longest recording that `transcribe` takes."""
    detects_language: bool = False
    """Tells which language was spoken when none is given."""
    word_times: bool = False
    """Gives every word with its times."""
    submits: bool = False
    """Is a SubmittingEngine too."""
    streams: bool = False
    """Is a StreamingEngine too."""
    renders_english: bool = False
    """Writes what is said in another language in English: then its result's `translated_from` names that."""


class SpeechEngine(Engine, Protocol):
    """An engine that transcribes recordings."""

    @property
    def capabilities(self) -> SpeechCapabilities:
        """What it can do, the same all its life."""

    async def transcribe(self, recording: EngineInput) -> EngineResult:
        """Transcribe a recording of at most `longest_seconds`. Raises EngineError."""


@dataclass(frozen=True)
class Submission:
    """How far a provider is with what was submitted; `result` is None until it ends."""

    seconds: float = 0.0
    """Seconds of audio that are done, 0 where the provider does not say."""
    result: EngineResult | None = None


class SubmittingEngine(SpeechEngine, Protocol):
    """An engine whose provider transcribes long recordings in its own time."""

    async def submit(self, recording: EngineInput) -> str:
        """Hand a recording over; the provider's name for it, with which any process may ask. Raises EngineError."""

    async def poll(self, submission: str) -> Submission:
        """Tell how far it is. Raises EngineError, not transient if it failed or is not there."""

    async def cancel(self, submission: str) -> None:
        """Give it up; harmless if it has ended or is not there. Raises EngineError."""


class StreamingEngine(SpeechEngine, Protocol):
    """An engine that transcribes while people speak."""

    def stream(self, sound: AsyncIterator[bytes], language: str) -> AsyncIterator[Segment]:
        """Give segments as they are final, of one channel of 16-bit samples at 16 kHz. Raises EngineError."""
