"""The service's tables; the tenant leads every key, so that no query of a tenant can lack it.

The queue is the exception: its claim finds the tenants that have something due.

Transcripts are not interleaved in recordings: one may outlive its recording. What a list shows stands in its index
on Spanner (STORING), so that a page is read from one place.
"""

from __future__ import annotations

import sqlalchemy as sa
from trunkline_jobs import jobs_table
from trunkline_jobs.operations import operations_table
from trunkline_store.declare import index_options, table_options
from trunkline_store.records.outbox import outbox_table
from trunkline_store.records.tombstones import tombstones_table
from trunkline_store.types import Bool, Json, Text, UtcTimestamp

metadata = sa.MetaData()

deleted_tenants = tombstones_table(metadata)
jobs = jobs_table(metadata)
tasks = jobs_table(metadata, "tasks")
operations = operations_table(metadata)
# What engines' answers cost, until the tenant service is told.
charges = outbox_table(metadata, "charges")

# Recordings and transcripts that were deleted on request, by their names: they are not made again (tombstones.py).
deleted_resources = sa.Table(
    "deleted_resources",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("name", Text(160), primary_key=True),
    sa.Column("deleted_at", UtcTimestamp, nullable=False),
)

_LISTED_RECORDING = (
    "call", "sha256", "size_bytes", "format", "duration_us", "channels", "sample_rate_hertz", "expire_at",
)  # fmt: skip
_LISTED_TRANSCRIPT = (
    "recording_id", "generation", "language", "speakers", "channels", "duration_us", "speech_us", "confidence",
    "unreliable_reason", "engine", "expire_at", "language_confidence", "overruled_language",
    "wanted_engine", "again_at", "translated_from",
)  # fmt: skip

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
    # When the sweeper deletes it, on Spanner too: its bytes have to go before it. Never when NULL.
    sa.Column("expire_at", UtcTimestamp, nullable=True),
    sa.Index("recordings_by_expiry", "tenant_id", "expire_at", info=index_options(null_filtered=True)),
    sa.Index(
        "recordings_by_time",
        "tenant_id",
        "created_at",
        "recording_id",
        info=index_options(storing=_LISTED_RECORDING),
    ),
    sa.Index("recordings_by_call", "tenant_id", "call", "created_at", "recording_id", info=index_options()),
    sa.Index("recordings_by_sha256", "tenant_id", "sha256", info=index_options()),
)

# Recordings that are on their way. A row is there before its first byte, so that nothing is left of a crash.
uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("upload_id", Text(40), primary_key=True),  # the recording's id to be
    sa.Column("call", Text(200), nullable=False),
    sa.Column("headerless", Text(16), nullable=False),
    sa.Column("sha256", Text(64), nullable=False),  # as stated; empty when it was not
    sa.Column("size_bytes", sa.BigInteger, nullable=False),  # 0 while it is not known
    sa.Column("recording_expire_at", UtcTimestamp, nullable=True),
    sa.Column("received_bytes", sa.BigInteger, nullable=False),
    sa.Column("pieces", Json, nullable=False),
    # Who writes the whole bytes under the recording's key, and until when nobody else may.
    sa.Column("writer", Text(40), nullable=False),
    sa.Column("writer_until", UtcTimestamp, nullable=True),
    sa.Column("recording_id", Text(40), nullable=False),  # what it became; empty before
    sa.Column("existing", Bool, nullable=False),
    sa.Column("failure", Json, nullable=True),  # why it can never become one
    sa.Column("created_at", UtcTimestamp, nullable=False),
    sa.Column("expire_at", UtcTimestamp, nullable=False),
    sa.Index("uploads_by_expiry", "tenant_id", "expire_at", info=index_options()),
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("transcript_id", Text(40), primary_key=True),  # of the transcript that is being made
    sa.Column(
        "number", sa.BigInteger, primary_key=True, autoincrement=False
    ),  # in the order in which they came
    sa.Column("recording_id", Text(40), nullable=False),
    sa.Column("key", Text(200), nullable=False),
    sa.Column("value", Json, nullable=False),  # what the engine takes up
    sa.Column("segments", Json, nullable=False),  # what a watcher is shown
    sa.Column("expire_at", UtcTimestamp, nullable=False),
    sa.Index("checkpoints_by_recording", "tenant_id", "recording_id", info=index_options()),
    sa.Index("checkpoints_by_expiry", "tenant_id", "expire_at", info=index_options()),
    info=table_options(expire=("expire_at", 0)),
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
    sa.Column("expire_at", UtcTimestamp, nullable=True),  # from when it is gone; never when NULL
    # Of transcripts that were made before the engine detected languages: 0 and empty.
    sa.Column("language_confidence", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Column("overruled_language", Text(35), nullable=False, server_default=""),
    # Of transcripts that were made before usage was kept, and of engines that count nothing: NULL. Not in lists.
    sa.Column("usage", Json, nullable=True),
    # The engine that was to answer, of a degraded transcript; empty of others.
    sa.Column("wanted_engine", Text(128), nullable=False, server_default=""),
    # Since when a degraded transcript waits to be made again, and what was asked for; NULL of those that stay.
    sa.Column("again_at", UtcTimestamp, nullable=True),
    sa.Column("asked", Json, nullable=True),
    # What the words were heard of and how: the next recording that gives the same takes them over. NULL where none may.
    sa.Column("result_key", Text(40), nullable=True),
    # How many sounds the engine told apart: the roles of channels are the recording's own.
    sa.Column("lanes", sa.Integer, nullable=True),
    sa.Column("reused", Bool, nullable=False, server_default=sa.text("false")),
    # The language that was spoken, of a transcript that is an English rendering; empty of others.
    sa.Column("translated_from", Text(35), nullable=False, server_default=""),
    # Why the wanted engine could not answer; empty of others, and of those made before it was kept. Not in lists.
    sa.Column("degraded_reason", Text(64), nullable=False, server_default=""),
    sa.Index("transcripts_by_expiry", "tenant_id", "expire_at", info=index_options(null_filtered=True)),
    sa.Index(
        "transcripts_by_time",
        "tenant_id",
        "created_at",
        "transcript_id",
        info=index_options(storing=_LISTED_TRANSCRIPT),
    ),
    sa.Index("transcripts_by_recording", "tenant_id", "recording_id", info=index_options()),
    sa.Index("transcripts_by_result", "tenant_id", "result_key", info=index_options(null_filtered=True)),
    info=table_options(expire=("expire_at", 0)),
)

# Which process has an engine listen for a result: another one waits for it, until the time that is written here.
result_claims = sa.Table(
    "result_claims",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("result_key", Text(40), primary_key=True),
    sa.Column("holder", Text(40), nullable=False),
    sa.Column("expire_at", UtcTimestamp, nullable=False),
    info=table_options(expire=("expire_at", 0)),
)

# What engines refuse for good, so that they are not asked again all day; the id digests the bytes and what was asked.
refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("refusal_id", Text(40), primary_key=True),
    sa.Column("reason", Text(64), nullable=False),
    sa.Column("message", Text(500), nullable=False),
    sa.Column("of_content", Bool, nullable=False),
    sa.Column("expire_at", UtcTimestamp, nullable=False),
    sa.Index("refusals_by_expiry", "tenant_id", "expire_at", info=index_options()),
    info=table_options(expire=("expire_at", 0)),
)
