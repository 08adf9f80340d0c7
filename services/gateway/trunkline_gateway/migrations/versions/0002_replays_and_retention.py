"""Replays of many events, and when receipts go that are no event."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options, table_options
from trunkline_store.types import Bool, Json, Text, UtcTimestamp

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the tables with their indexes."""
    op.create_table(
        "replays",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("replay_id", Text(40), primary_key=True),
        sa.Column("filter", Text(2000), nullable=False),
        sa.Column("force", Bool, nullable=False),
        sa.Column("rate", sa.Float, nullable=False),
        sa.Column("event_count", sa.BigInteger, nullable=False),
        sa.Column("replayed_count", sa.BigInteger, nullable=False),
        sa.Column("sample", Json, nullable=False),
        sa.Column("created_at", UtcTimestamp, nullable=False),
        sa.Column("finished_at", UtcTimestamp, nullable=True),
        sa.Column("due_at", UtcTimestamp, nullable=True),
        sa.Column("steps", sa.BigInteger, nullable=False),
        sa.Column("after_time", UtcTimestamp, nullable=True),
        sa.Column("after_id", Text(40), nullable=False),
        info=table_options(expire=("finished_at", 30)),
    )
    op.create_index("replays_by_due", "replays", ["due_at"], info=index_options(null_filtered=True))
    op.create_table(
        "eventless_receipts",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tenant_id", Text(40), nullable=False),
        sa.Column("expire_at", UtcTimestamp, nullable=True),
    )
    op.create_index("eventless_receipts_by_expiry", "eventless_receipts", ["tenant_id", "expire_at"])
