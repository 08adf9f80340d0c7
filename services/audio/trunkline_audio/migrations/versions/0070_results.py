"""Results of engines that further recordings of the same sound take over, and which process works on one."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options, table_options
from trunkline_store.types import Bool, Text, UtcTimestamp

revision = "0070"
down_revision = "0061"


def upgrade() -> None:
    """Adds columns, an index, and a table; transcripts that are there are not taken over."""
    op.add_column("transcripts", sa.Column("result_key", Text(40), nullable=True))
    op.add_column("transcripts", sa.Column("lanes", sa.Integer, nullable=True))
    op.add_column("transcripts", sa.Column("reused", Bool, nullable=False, server_default=sa.text("false")))
    key = ["tenant_id", "result_key"]
    op.create_index("transcripts_by_result", "transcripts", key, info=index_options(null_filtered=True))
    op.create_table(
        "result_claims",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("result_key", Text(40), primary_key=True),
        sa.Column("holder", Text(40), nullable=False),
        sa.Column("expire_at", UtcTimestamp, nullable=False),
        info=table_options(expire=("expire_at", 0)),
    )
