"""What is finished of a transcript that is being made."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options, table_options
from trunkline_store.types import Json, Text, UtcTimestamp

revision = "0080"
down_revision = "0070"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "checkpoints",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("transcript_id", Text(40), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("recording_id", Text(40), nullable=False),
        sa.Column("key", Text(200), nullable=False),
        sa.Column("value", Json, nullable=False),
        sa.Column("segments", Json, nullable=False),
        sa.Column("expire_at", UtcTimestamp, nullable=False),
        info=table_options(expire=("expire_at", 0)),
    )
    op.create_index(
        "checkpoints_by_recording", "checkpoints", ["tenant_id", "recording_id"], info=index_options()
    )
    op.create_index("checkpoints_by_expiry", "checkpoints", ["tenant_id", "expire_at"], info=index_options())
