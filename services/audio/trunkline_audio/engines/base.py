"""What a speech engine is: the interface and the values that cross it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Utterance:
    """A stretch of speech in one lane; times in samples at 16 kHz, `voice` 1 or 2, 0 when not told apart."""

    lane: int
    start: int
    end: int
    voice: int = 0


@dataclass(frozen=True)
class PreparedAudio:
    """A decoded recording: int16 at 16 kHz in the files `lane(0)`.. and the speech found in them."""

    scratch: Path
    lanes: int
    channels: int
    sample_rate: int
    seconds: float
    speech_seconds: float
    utterances: tuple[Utterance, ...]

    def lane(self, index: int) -> Path:
        """The file that holds a lane's samples."""
        return Path(f"{self.scratch}.{index}")


class EngineInput(Protocol):
    """A recording as an engine gets it; decoding happens only for an engine that asks."""

    @property
    def tenant_id(self) -> str:
        """Whose it is: engines share themselves fairly among tenants."""

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
    """One stretch of speech of one speaker; `text` stands for itself where an engine gives no words."""

    lane: int
    voice: int
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class EngineResult:
    """What an engine heard. `unreliable` is empty or the reason why it cannot be relied on.

    `language` is the one that was spoken, BCP 47, `language_confidence` how sure the engine is of it, 0 to 1, and
    0 when it did not ask; `overruled_language` is the language that was asked for, when another one was heard.
    """

    language: str
    segments: tuple[Segment, ...] = ()
    lanes: int = 1
    speech_seconds: float = 0.0
    unreliable: str = ""
    language_confidence: float = 0.0
    overruled_language: str = ""
    speakers: int | None = field(default=None)
    """How many speak, where the engine knows better than its segments tell."""


class EngineError(Exception):
    """An engine could not answer. `transient` says whether trying again may help."""

    def __init__(self, reason: str, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.transient = transient


class Engine(Protocol):
    """A speech engine: one instance serves many recordings at once and never blocks the event loop."""

    @property
    def name(self) -> str:
        """Engine and version, such as `whisper/1.2.1 base`."""

    @property
    def ready(self) -> bool:
        """Whether it can answer now."""

    def start(self) -> None:
        """Begins to warm up; returns at once."""

    async def transcribe(self, source: EngineInput, language: str) -> EngineResult:
        """Transcribes a recording; `language` (BCP 47) is what its speakers are said to use, or empty.

        Raises EngineError.
        """

    async def close(self) -> None:
        """Ends what it started."""
