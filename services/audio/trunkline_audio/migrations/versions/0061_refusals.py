"""What engines refuse for good."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options, table_options
from trunkline_store.types import Bool, Text, UtcTimestamp

revision = "0061"
down_revision = "0060"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "refusals",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("refusal_id", Text(40), primary_key=True),
        sa.Column("reason", Text(64), nullable=False),
        sa.Column("message", Text(500), nullable=False),
        sa.Column("of_content", Bool, nullable=False),
        sa.Column("expire_at", UtcTimestamp, nullable=False),
        info=table_options(expire=("expire_at", 0)),
    )
    op.create_index("refusals_by_expiry", "refusals", ["tenant_id", "expire_at"], info=index_options())
