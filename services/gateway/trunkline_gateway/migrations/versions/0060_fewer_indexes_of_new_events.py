"""Indexes that hold only those events that they are asked for: a new event is not written to them."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options

revision = "0060"
down_revision = "0050"


def upgrade() -> None:
    """Makes two indexes anew, of some of the events; and drops one of the jobs that nobody asks."""
    op.drop_index("jobs_subjects", "jobs")
    if op.get_bind().dialect.name != "sqlite":
        return
    op.drop_index("events_by_call", "events")
    op.drop_index("events_by_expiry", "events")
    op.create_index(
        "events_by_call",
        "events",
        ["tenant_id", "call", "received_at", "event_id"],
        sqlite_where=sa.text("call != ''"),
        info=index_options(),
    )
    op.create_index(
        "events_by_expiry",
        "events",
        ["tenant_id", "expire_at"],
        sqlite_where=sa.text("expire_at IS NOT NULL"),
        info=index_options(null_filtered=True),
    )
