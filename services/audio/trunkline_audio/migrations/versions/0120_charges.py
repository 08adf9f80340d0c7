"""What engines' answers cost, until the tenant service is told; and why another engine than the wanted one answered."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.records.outbox import outbox_columns
from trunkline_store.types import Text

revision = "0120"
down_revision = "0093"


def upgrade() -> None:
    """Creates the table, and adds the column."""
    op.create_table("charges", *outbox_columns())
    op.add_column("transcripts", sa.Column("degraded_reason", Text(64), nullable=False, server_default=""))
