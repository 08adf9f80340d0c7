"""What is to be transcribed, and how; and the ids that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from trunkline_words.personal.policy import PiiKind

from trunkline_audio.engines.base import SpeechEngine
from trunkline_audio.names import derived_id
from trunkline_audio.recordings.rows import Recording
from trunkline_audio.transcripts.rows import Transcript
from trunkline_audio.transcripts.speakers import AGENT_THEN_CUSTOMER


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
    redacted: frozenset[PiiKind] = frozenset()
    """The kinds of personal data that are never stored: placeholders stand in their place."""
    expire_at: datetime | None = None
    """When it is deleted; None: as the service is set to."""
    priority: int = 0
    """Its class, 0 (realtime), 1 (batch), or 2 (background)."""

    @property
    def roles(self) -> tuple[int, ...]:
        """The speakers of the channels."""
        return self.channel_speakers or AGENT_THEN_CUSTOMER

    @property
    def asked(self) -> dict[str, Any]:
        """What a degraded transcript keeps, so that it can be made again; `of` reads it."""
        return {
            "language": self.language,
            "speakers": list(self.channel_speakers),
            "engine": self.engine,
            "phrases": list(self.phrases),
            "redacted": sorted(self.redacted),
        }

    @classmethod
    def of(cls, degraded: Transcript, priority: int) -> TranscriptionTask:
        """Return the task that a degraded transcript was made for, in another class."""
        asked = degraded.asked or {}
        return cls(
            tenant_id=degraded.tenant_id,
            recording_id=degraded.recording_id,
            language=asked.get("language", ""),
            channel_speakers=tuple(asked.get("speakers", ())),
            generation=degraded.generation,
            engine=asked.get("engine", ""),
            phrases=tuple(asked.get("phrases", ())),
            redacted=frozenset(map(PiiKind, asked.get("redacted", ()))),
            expire_at=degraded.expire_at,
            priority=priority,
        )


def transcript_id(task: TranscriptionTask, sha256: str) -> str:
    """The id that the same bytes, language, roles, generation and chosen engine of a recording always have.

    No language is a task of its own: what is detected may differ from what any hint would give. Phrases are not part
    of it: a tenant that changes them does not pay for its recordings anew. Kinds of personal data are: whoever wants
    placeholders is never shown a transcript without them.
    """
    roles = ",".join(str(role) for role in task.roles)
    parts = [task.recording_id, sha256, task.language.lower(), roles, str(task.generation)]
    if task.engine:
        parts.append(f"engine {task.engine}")
    return derived_id([*parts, *_redacted(task)])


def result_key(task: TranscriptionTask, recording: Recording, engine: SpeechEngine) -> str:
    """The id of what an engine hears: of the same bytes, read in the same way, with the same options.

    Who speaks on which channel is no part of it. A higher generation is heard again. Of a transcript with placeholders
    nothing can be made that shows more.
    """
    options = [task.language.lower(), str(task.generation), *task.phrases]
    heard = derived_id([recording.sha256, recording.headerless, engine.name, *options])
    # Not one more part behind the phrases: a phrase may be any text.
    return derived_id([*_redacted(task), heard]) if task.redacted else heard


def _redacted(task: TranscriptionTask) -> list[str]:
    return [f"redacted {','.join(sorted(task.redacted))}"] if task.redacted else []


def unredacted(task: TranscriptionTask) -> TranscriptionTask:
    """Return what is to be heard, whatever is then stored of it."""
    return replace(task, redacted=frozenset())


def refusal_id(task: TranscriptionTask, recording: Recording, engine: SpeechEngine) -> str:
    """The id of an engine's refusal of the same bytes and options; a forced replay asks again."""
    return derived_id(["refusal", result_key(unredacted(task), recording, engine)])
