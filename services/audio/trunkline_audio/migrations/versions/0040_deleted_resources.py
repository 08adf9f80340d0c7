"""Tombstones of recordings and transcripts that were deleted on request."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Text, UtcTimestamp

revision = "0040"
down_revision = "0030"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "deleted_resources",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("name", Text(160), primary_key=True),
        sa.Column("deleted_at", UtcTimestamp, nullable=False),
    )
