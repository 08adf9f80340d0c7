"""How a call ended for the business."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options

revision = "0110"
down_revision = "0100"


def upgrade() -> None:
    """Adds the outcome, and its index."""
    op.add_column("calls", sa.Column("outcome", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.create_index(
        "calls_by_outcome", "calls", ["tenant_id", "outcome", "start_time", "call_id"], info=index_options()
    )
