"""On SQLite, events and the links of receipts lie in the order in which they came; jobs have ids of their own.

A digest orders only the entries of the events' key from now on. Neither engine changes a key, so on SQLite both tables
are copied. Spanner has no tree to save, and gets the columns alone.
"""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options
from trunkline_store.types import Bool, Json, Text, UtcTimestamp

revision = "0108"
down_revision = "0107"


def upgrade() -> None:
    """Adds the columns; where one process owns the file, moves the rows."""
    op.add_column("events", sa.Column("job_id", Text(64), nullable=True))
    op.add_column("event_receipts", sa.Column("first", Bool, nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        _move_events()
        _move_links()


def _move_events() -> None:
    op.rename_table("events", "events_before")
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
        sa.Column("warnings", Json, nullable=True),
        sa.Column("revises", Text(40), nullable=True),
        sa.Column("content", Text(64), nullable=True),
        sa.Column("told_at", UtcTimestamp, nullable=True),
        sa.Column("updated_at", UtcTimestamp, nullable=True),
        sa.Column("provider_call_id", Text(256), nullable=True),
        sa.Column("fetch_generation", sa.Integer, nullable=True),
        sa.Column("trace_id", Text(32), nullable=True),
        sa.Column("job_id", Text(64), nullable=True),
    )
    columns = (
        "tenant_id, event_id, source_id, provider, event_type, received_at, event_time, first_seq, call, finished_at,"
        " expire_at, warnings, revises, content, told_at, updated_at, provider_call_id, fetch_generation, trace_id,"
        " job_id"
    )
    op.execute(f"INSERT INTO events ({columns}) SELECT {columns} FROM events_before ORDER BY received_at")  # noqa: S608
    op.drop_table("events_before")  # with its indexes
    for name, where, *more in (
        ("update", None, "updated_at", "event_id"),
        ("expiry", "expire_at IS NOT NULL", "expire_at"),
        ("time", None, "received_at", "event_id"),
        ("call", "call != ''", "call", "received_at", "event_id"),
        ("revised", "revises IS NOT NULL", "revises", "received_at"),
        ("provider_call", "provider_call_id IS NOT NULL", "provider_call_id", "received_at", "event_id"),
    ):
        chosen = sa.text(where) if where else None
        op.create_index(f"events_by_{name}", "events", ["tenant_id", *more], sqlite_where=chosen)


def _move_links() -> None:
    op.rename_table("event_receipts", "event_receipts_before")
    op.create_table(
        "event_receipts",
        sa.Column("tenant_id", Text(40), nullable=False),
        sa.Column("event_id", Text(40), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("repeated_bytes", sa.BigInteger, nullable=True),
        sa.Column("receipt_id", Text(32), nullable=True),
        sa.Column("first", Bool, nullable=True),
        sa.PrimaryKeyConstraint("seq", "tenant_id", "event_id"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO event_receipts (tenant_id, event_id, seq, repeated_bytes, receipt_id, first)"
        " SELECT l.tenant_id, l.event_id, l.seq, l.repeated_bytes, l.receipt_id,"
        " CASE WHEN e.first_seq = l.seq THEN 1 END"
        " FROM event_receipts_before l"
        " LEFT JOIN events e ON e.tenant_id = l.tenant_id AND e.event_id = l.event_id ORDER BY l.seq"
    )
    op.drop_table("event_receipts_before")
    op.create_index(
        "event_receipts_by_id", "event_receipts", ["tenant_id", "receipt_id"], info=index_options()
    )
    op.create_index(
        "event_receipts_by_event",
        "event_receipts",
        ["tenant_id", "event_id"],
        sqlite_where=sa.text("first IS NULL"),
    )
