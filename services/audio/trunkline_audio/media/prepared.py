"""What the preparation of a recording gives: its decoded lanes, the speech that was found, or what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline_runtime.engines.base import EngineError


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


class RecordingFault(EngineError):
    """The recording cannot be decoded, or not now: no engine can change that."""
