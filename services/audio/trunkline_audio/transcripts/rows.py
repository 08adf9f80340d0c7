"""Transcripts as rows: kept once, read, listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.audio.v1 import transcript_pb2
from trunkline_runtime.api.columns import Filter, by_id, conditions
from trunkline_runtime.api.filters import FieldType
from trunkline_runtime.engines.account import usage_message
from trunkline_runtime.engines.base import EngineUsage
from trunkline_store.database import Database
from trunkline_store.hot import Hot
from trunkline_store.inserts import insert_if_absent
from trunkline_store.records.deletion import delete_keys
from trunkline_store.records.expiry import is_over, lives
from trunkline_store.records.keyset import Page, Place

from trunkline_audio import tombstones
from trunkline_audio.engines.base import Segment
from trunkline_audio.names import duration, microseconds, recording_name, transcript_name
from trunkline_audio.recordings.rows import Recording, forget_checkpoints, recording_of
from trunkline_audio.schema import transcripts


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording. `segments` are plain values: see `segment`."""

    tenant_id: str
    transcript_id: str
    recording_id: str
    generation: int
    language: str
    speakers: int
    channels: int
    duration_us: int
    speech_us: int
    confidence: float
    unreliable_reason: str
    engine: str
    segments: list[dict[str, Any]]
    created_at: datetime
    expire_at: datetime | None = None
    language_confidence: float = 0.0
    overruled_language: str = ""
    usage: dict[str, Any] | None = None
    """The fields of an EngineUsage that are not 0."""
    result_key: str | None = None
    """What it was heard of and how (results.py); None: no other recording takes it over."""
    lanes: int | None = None
    """How many sounds the engine told apart; None where that was not kept."""
    reused: bool = False
    """Whether the words are those of an earlier transcript of the same sound."""
    wanted_engine: str = ""
    """The engine that was to answer, by its name in the setting; empty unless another one had to."""
    again_at: datetime | None = None
    """Since when it waits to be made again by the wanted engine; None where it stays as it is."""
    asked: dict[str, Any] | None = None
    """What was asked for, of one that waits: see `TranscriptionTask.asked`."""
    degraded_reason: str = ""
    """Why the wanted engine could not answer; empty unless another one had to."""
    translated_from: str = ""
    """The language that was spoken, where the text is an English rendering of it; otherwise empty."""

    def to_proto(self) -> transcript_pb2.Transcript:
        """The resource."""
        message = transcript_pb2.Transcript(
            name=transcript_name(self.tenant_id, self.transcript_id),
            recording=recording_name(self.tenant_id, self.recording_id),
            language=self.language,
            segments=[segment_message(item) for item in self.segments],
            speakers=self.speakers,
            channels=self.channels,
            duration=duration(self.duration_us),
            speech_duration=duration(self.speech_us),
            confidence=self.confidence,
            unreliable=bool(self.unreliable_reason),
            unreliable_reason=self.unreliable_reason,
            engine=self.engine,
            language_confidence=self.language_confidence,
            overruled_language=self.overruled_language,
            reused=self.reused,
            degraded=bool(self.wanted_engine),
            wanted_engine=self.wanted_engine,
            degraded_reason=self.degraded_reason,
            degraded_final=bool(self.wanted_engine) and self.again_at is None,
            translated_from=self.translated_from,
        )
        message.create_time.FromDatetime(self.created_at)
        if self.usage:
            message.usage.CopyFrom(usage_message(EngineUsage(**self.usage)))
        if self.expire_at is not None:
            message.expire_time.FromDatetime(self.expire_at)
        return message


def segment(speaker: int, heard: Segment) -> dict[str, Any]:
    """A segment as it is stored: times in microseconds, words as [text, start, end, confidence]."""
    return {
        "speaker": speaker,
        "channel": heard.lane,
        "start": microseconds(heard.start),
        "end": microseconds(heard.end),
        "text": heard.text,
        "words": [
            [word.text, microseconds(word.start), microseconds(word.end), word.confidence or 0.0]
            for word in heard.words
        ],
    }


def used(usage: EngineUsage) -> dict[str, Any] | None:
    """An engine's usage as it is stored."""
    return {name: value for name, value in vars(usage).items() if value} or None


def segment_message(item: dict[str, Any]) -> transcript_pb2.Segment:
    """A stored segment as the message."""
    return transcript_pb2.Segment(
        speaker=item["speaker"],
        channel=item["channel"],
        start_offset=duration(item["start"]),
        end_offset=duration(item["end"]),
        text=item["text"],
        words=[
            transcript_pb2.Word(
                text=text, start_offset=duration(start), end_offset=duration(end), confidence=confidence
            )
            for text, start, end, confidence in item["words"]
        ],
    )


_ONE = Hot(
    sa.select(transcripts).where(
        transcripts.c.tenant_id == sa.bindparam("tenant"),
        transcripts.c.transcript_id == sa.bindparam("transcript"),
    )
)


SUBMITTED = "submitted"
"""In what was asked of a degraded transcript: what providers were handed to make it again, by key."""
_NOT_LISTED = ("segments", "usage", "asked", "result_key", "lanes", "reused", "degraded_reason")

_FILTERS = {
    "recording": by_id(transcripts.c.recording_id),
    "language": Filter(FieldType.STRING, transcripts.c.language),
    "unreliable_reason": Filter(FieldType.STRING, transcripts.c.unreliable_reason),
    "create_time": Filter(FieldType.TIMESTAMP, transcripts.c.created_at),
}


def transcript_of(conn: Connection, tenant: str, transcript: str, now: datetime) -> Transcript | None:
    """Read one transcript; None when it is not there, or its time has come."""
    row = _ONE.first(conn, {"tenant": tenant, "transcript": transcript})
    if row is None or is_over(row["expire_at"], now):
        return None
    return Transcript(**row)


def _refuse(conn: Connection, tenant: str, transcript: str) -> None:
    tombstones.refuse(conn, tenant, transcript_name(tenant, transcript), "TRANSCRIPT_DELETED")


def settle(conn: Connection, tenant: str, transcript: str) -> None:
    """Have a degraded transcript stay as it is."""
    _change_waiting(conn, tenant, transcript, again_at=None, asked=None)


def _change_waiting(conn: Connection, tenant: str, transcript: str, **values: Any) -> None:
    c = transcripts.c
    waiting = (c.tenant_id == tenant, c.transcript_id == transcript, c.again_at.is_not(None))
    conn.execute(sa.update(transcripts).where(*waiting).values(**values))


class Transcripts:
    """The transcripts of all tenants; every call names one tenant. One whose time has come is not there any more.

    `list_staleness` is how old a page may be where the engine can serve older snapshots; None is the latest.
    """

    def __init__(self, db: Database, list_staleness: timedelta | None = None) -> None:
        self._db = db
        self._list_staleness = list_staleness

    async def get(self, tenant: str, transcript: str) -> Transcript | None:
        """One transcript, None when it is not there."""
        now = self._db.clock.now()
        return await self._db.peek(lambda conn: transcript_of(conn, tenant, transcript, now))

    async def find(
        self, tenant: str, recording: str, identity: Callable[[Recording], str]
    ) -> tuple[Recording | None, Transcript | None]:
        """A recording, and its transcript of the id that `identity` derives from it; None what is not there.

        Raises FailedPrecondition for a transcript that was deleted on request.
        """

        now = self._db.clock.now()

        def work(conn: Connection) -> tuple[Recording | None, Transcript | None]:
            of = recording_of(conn, tenant, recording)
            if of is None:
                return None, None
            kept = transcript_of(conn, tenant, identity(of), now)
            if kept is None:
                _refuse(conn, tenant, identity(of))
            return of, kept

        return await self._db.peek(work)

    async def add(
        self, transcript: Transcript, also: Callable[[Connection], None] = lambda conn: None
    ) -> Transcript | None:
        """Keeps a transcript unless its id is there; the one that is kept, None if its recording is gone.

        `also` joins the transaction. Raises FailedPrecondition for one that was deleted on request.
        """
        key = ["tenant_id", "transcript_id"]
        now = self._db.clock.now()

        def work(conn: Connection) -> Transcript | None:
            if recording_of(conn, transcript.tenant_id, transcript.recording_id) is None:
                return None
            _refuse(conn, transcript.tenant_id, transcript.transcript_id)
            also(conn)
            if insert_if_absent(conn, transcripts, {**vars(transcript)}, key):
                return transcript
            kept = transcript_of(conn, transcript.tenant_id, transcript.transcript_id, now)
            if kept is None:  # it waits for its deletion: the new one takes its place
                delete_keys(conn, transcripts, [(transcript.tenant_id, transcript.transcript_id)])
                conn.execute(transcripts.insert(), {**vars(transcript)})
            return kept or transcript

        return await self._db.write(work)

    async def call_of(self, tenant: str, transcript: str) -> str | None:
        """The call of a transcript's recording, empty where that is gone or names none; None without a transcript."""
        now = self._db.clock.now()

        def work(conn: Connection) -> str | None:
            found = transcript_of(conn, tenant, transcript, now)
            of = None if found is None else recording_of(conn, tenant, found.recording_id)
            return None if found is None else of.call if of is not None else ""

        return await self._db.peek(work)

    async def delete(self, tenant: str, transcript: str) -> bool:
        """Deletes a transcript, with what watchers are still shown of it, and leaves its tombstone.

        False when it was not there.
        """
        now = self._db.clock.now()

        def work(conn: Connection) -> bool:
            found = transcript_of(conn, tenant, transcript, now)
            if found is None:
                return False
            forget_checkpoints(conn, tenant, found.recording_id, transcript)  # they hold its words
            tombstones.leave(conn, tenant, transcript_name(tenant, transcript), now)
            delete_keys(conn, transcripts, [(tenant, transcript)])
            return True

        return await self._db.write(work)

    async def note_submitted(self, degraded: Transcript, submitted: Mapping[str, Any]) -> None:
        """Keep what providers were handed to make a degraded transcript again, beside what was asked."""
        ids = degraded.tenant_id, degraded.transcript_id
        asked = {**(degraded.asked or {}), SUBMITTED: dict(submitted)}
        await self._db.write(lambda conn: _change_waiting(conn, *ids, asked=asked))

    async def improve(self, transcript: Transcript) -> None:
        """Puts a better transcript in the place of a degraded one of its id; any other stays as it is."""
        kept = ("tenant_id", "transcript_id", "recording_id", "generation", "expire_at")
        better = {name: value for name, value in vars(transcript).items() if name not in kept}
        await self._db.write(
            lambda conn: _change_waiting(conn, transcript.tenant_id, transcript.transcript_id, **better)
        )

    async def page(self, tenant: str, place: Place, filter_: str = "") -> tuple[list[Transcript], str]:
        """Transcripts of a tenant without what GetTranscript alone shows, the latest first, and the next page's token.

        Raises InvalidArgument("filter").
        """
        table = transcripts.c
        columns = [column for column in table if column.name not in _NOT_LISTED]
        living = lives(table.expire_at, self._db.clock.now())
        query = sa.select(*columns).where(table.tenant_id == tenant, living, *conditions(filter_, _FILTERS))
        page = Page(query, [table.created_at, table.transcript_id], place, descending=True)
        read = page.made(lambda row: Transcript(segments=[], **row._mapping))
        return await self._db.scan(read, staleness=self._list_staleness)
