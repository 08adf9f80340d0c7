"""A kept recording, as the service hands it to an engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from trunkline_audio.engines.base import NO_CHECKPOINTS, Checkpoints
from trunkline_audio.media.preparation import Preparer
from trunkline_audio.media.prepared import PreparedAudio


@dataclass(frozen=True)
class RecordingFile:
    """A recording in a file, as engines get it (EngineInput)."""

    path: Path
    preparer: Preparer
    tenant_id: str
    language: str = ""
    seconds: float = 0.0
    channels: int = 1
    headerless: str = ""
    """What its bytes are that have no header; see `decode`."""
    phrases: tuple[str, ...] = ()
    """Words that are likely to be said in it."""
    priority: int = 0
    """Its class; see EngineInput."""
    checkpoints: Checkpoints = NO_CHECKPOINTS

    def prepared(self) -> AbstractAsyncContextManager[PreparedAudio]:
        """Decodes it in the sandbox."""
        return self.preparer.prepare(self.path, self.tenant_id, self.headerless, self.priority)
