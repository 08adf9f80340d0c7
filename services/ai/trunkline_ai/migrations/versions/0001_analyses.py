"""Analyses."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Json, Text, UtcTimestamp

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the table with its indexes."""
    op.create_table(
        "analyses",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("analysis_id", Text(40), primary_key=True),
        sa.Column("call_id", Text(40), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("engine", Text(64), nullable=False),
        sa.Column("result", Json, nullable=False),
        sa.Column("created_at", UtcTimestamp, nullable=False),
        sa.Column("expire_at", UtcTimestamp, nullable=True),
    )
    op.create_index("analyses_by_expiry", "analyses", ["expire_at"])
    op.create_index("analyses_by_time", "analyses", ["tenant_id", "created_at", "analysis_id"])
    op.create_index("analyses_by_call", "analyses", ["tenant_id", "call_id"])
