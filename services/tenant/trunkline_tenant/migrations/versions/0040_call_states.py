"""How far a call has come, and what lists follow changes by."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options

revision = "0040"
down_revision = "0030"


def upgrade() -> None:
    """Adds the state, and the indexes."""
    op.add_column("calls", sa.Column("state", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.create_index("calls_by_update", "calls", ["tenant_id", "update_time", "call_id"], info=index_options())
    op.create_index(
        "calls_by_state", "calls", ["tenant_id", "state", "start_time", "call_id"], info=index_options()
    )
