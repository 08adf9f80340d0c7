"""A new event has fewer entries in indexes: none by expiry or call while it has none, and its job none by subject."""

import sqlalchemy as sa
import trunkline_jobs
from alembic import op
from trunkline_store.declare import index_options

revision = "0107"
down_revision = "0106"


def upgrade() -> None:
    """Makes the indexes anew where an index can leave out rows by any condition."""
    trunkline_jobs.create_v4(op)
    if op.get_bind().dialect.name != "sqlite":
        return
    op.drop_index("events_by_expiry", "events")
    op.create_index(
        "events_by_expiry",
        "events",
        ["tenant_id", "expire_at"],
        sqlite_where=sa.text("expire_at IS NOT NULL"),
        info=index_options(null_filtered=True),
    )
    op.drop_index("events_by_call", "events")
    op.create_index(
        "events_by_call",
        "events",
        ["tenant_id", "call", "received_at", "event_id"],
        sqlite_where=sa.text("call != ''"),
        info=index_options(),
    )
