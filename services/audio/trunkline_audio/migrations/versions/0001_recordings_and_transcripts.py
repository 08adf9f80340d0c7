"""Recordings and transcripts."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options, table_options
from trunkline_store.types import Json, Text, UtcTimestamp

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates both tables with their indexes."""
    op.create_table(
        "recordings",
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
        sa.Column("expire_at", UtcTimestamp, nullable=True),
    )
    expiring = index_options(null_filtered=True)
    op.create_index("recordings_by_expiry", "recordings", ["tenant_id", "expire_at"], info=expiring)
    listed = [
        "call", "sha256", "size_bytes", "format", "duration_us", "channels", "sample_rate_hertz", "expire_at",
    ]  # fmt: skip
    op.create_index(
        "recordings_by_time",
        "recordings",
        ["tenant_id", "created_at", "recording_id"],
        info=index_options(storing=listed),
    )
    op.create_table(
        "transcripts",
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
        sa.Column("expire_at", UtcTimestamp, nullable=True),
        info=table_options(expire=("expire_at", 0)),
    )
    op.create_index("transcripts_by_expiry", "transcripts", ["tenant_id", "expire_at"], info=expiring)
    listed = [
        "recording_id", "generation", "language", "speakers", "channels", "duration_us", "speech_us",
        "confidence", "unreliable_reason", "engine", "expire_at",
    ]  # fmt: skip
    op.create_index(
        "transcripts_by_time",
        "transcripts",
        ["tenant_id", "created_at", "transcript_id"],
        info=index_options(storing=listed),
    )
    op.create_index("transcripts_by_recording", "transcripts", ["tenant_id", "recording_id"])
