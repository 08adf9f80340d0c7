"""The service's tables; the tenant leads every key, so that no query of a tenant can lack it."""

from __future__ import annotations

import sqlalchemy as sa
from trunkline_store.tombstones import tombstones_table
from trunkline_store.types import Json, Text, UtcTimestamp

metadata = sa.MetaData()

deleted_tenants = tombstones_table(metadata)

recordings = sa.Table(
    "recordings",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("recording_id", Text(40), primary_key=True),
    sa.Column("call", Text(200), nullable=False),
    sa.Column("sha256", Text(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("format", Text(64), nullable=False),
    sa.Column("duration_us", sa.BigInteger, nullable=False),
    sa.Column("channels", sa.Integer, nullable=False),
    sa.Column("sample_rate_hertz", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTimestamp, nullable=False),
    sa.Column("expire_at", UtcTimestamp, nullable=True),  # when the sweeper deletes it; never when NULL
    sa.Index("recordings_by_expiry", "expire_at"),
    sa.Index("recordings_by_time", "tenant_id", "created_at", "recording_id"),
)

transcripts = sa.Table(
    "transcripts",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("transcript_id", Text(40), primary_key=True),
    sa.Column("recording_id", Text(40), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("language", Text(35), nullable=False),
    sa.Column("speakers", sa.Integer, nullable=False),
    sa.Column("channels", sa.Integer, nullable=False),
    sa.Column("duration_us", sa.BigInteger, nullable=False),
    sa.Column("speech_us", sa.BigInteger, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("unreliable_reason", Text(64), nullable=False),
    sa.Column("engine", Text(64), nullable=False),
    sa.Column("segments", Json, nullable=False),
    sa.Column("created_at", UtcTimestamp, nullable=False),
    sa.Column("expire_at", UtcTimestamp, nullable=True),  # when the sweeper deletes it; never when NULL
    sa.Index("transcripts_by_expiry", "expire_at"),
    sa.Index("transcripts_by_time", "tenant_id", "created_at", "transcript_id"),
    sa.Index("transcripts_by_recording", "tenant_id", "recording_id"),
)
