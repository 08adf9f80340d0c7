"""Analyses."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options, table_options
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
        info=table_options(expire=("expire_at", 0)),
    )
    op.create_index(
        "analyses_by_expiry", "analyses", ["tenant_id", "expire_at"], info=index_options(null_filtered=True)
    )
    op.create_index(
        "analyses_by_time",
        "analyses",
        ["tenant_id", "created_at", "analysis_id"],
        info=index_options(storing=("call_id", "generation", "engine", "result", "expire_at")),
    )
