"""Receipts, events, rejections and the queue of jobs."""

import sqlalchemy as sa
import trunkline_jobs
from alembic import op
from trunkline_store.declare import index_options, pending_column, table_options
from trunkline_store.types import Bytes, Json, Text, UtcTimestamp

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables with their indexes."""
    op.create_table(
        "receipts",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("receipt_id", Text(32), nullable=False),
        sa.Column("source_id", Text(40), nullable=False),
        sa.Column("tenant_id", Text(40), nullable=False),
        sa.Column("event_type", Text(64), nullable=False),
        sa.Column("received_at", UtcTimestamp, nullable=False),
        sa.Column("verdict", sa.Integer, nullable=False),
        sa.Column("content_type", Text(128), nullable=False),
        sa.Column("url", Text(2048), nullable=False),
        sa.Column("headers", Bytes, nullable=False),
        sa.Column("body", Bytes, nullable=False),
        pending_column(),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "receipts_pending",
        "receipts",
        ["pending", "received_at"],
        sqlite_where=sa.column("pending").is_not(None),
        info=index_options(null_filtered=True),
    )
    op.create_table(
        "cursors",
        sa.Column("name", Text(40), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "undecided_receipts",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source_id", Text(40), nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("event_id", Text(40), primary_key=True),
        sa.Column("source_id", Text(40), nullable=False),
        sa.Column("provider", sa.Integer, nullable=False),
        sa.Column("event_type", Text(64), nullable=False),
        sa.Column("received_at", UtcTimestamp, nullable=False),
        sa.Column("event_time", UtcTimestamp, nullable=True),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("call", Text(160), nullable=False),
        sa.Column("finished_at", UtcTimestamp, nullable=True),
        sa.Column("expire_at", UtcTimestamp, nullable=True),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "events_by_expiry", "events", ["tenant_id", "expire_at"], info=index_options(null_filtered=True)
    )
    listed = ("source_id", "provider", "event_type", "event_time", "call", "finished_at")
    op.create_index(
        "events_by_time",
        "events",
        ["tenant_id", "received_at", "event_id"],
        info=index_options(storing=listed),
    )
    op.create_table(
        "event_receipts",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("event_id", Text(40), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
        info=table_options(interleave_in="events"),
    )
    op.create_table(
        "rejections",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("rejection_id", Text(40), primary_key=True),
        sa.Column("source_id", Text(40), nullable=False),
        sa.Column("event_type", Text(64), nullable=False),
        sa.Column("received_at", UtcTimestamp, nullable=False),
        sa.Column("reason", Text(400), nullable=False),
        sa.Column("url", Text(2048), nullable=False),
        sa.Column("headers", Json, nullable=False),
        sa.Column("body", Bytes, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("expire_at", UtcTimestamp, nullable=True),
        info=table_options(expire=("expire_at", 0)),
    )
    op.create_index(
        "rejections_by_expiry",
        "rejections",
        ["tenant_id", "expire_at"],
        info=index_options(null_filtered=True),
    )
    op.create_index("rejections_by_time", "rejections", ["tenant_id", "received_at", "rejection_id"])
    trunkline_jobs.create_v1(op)
