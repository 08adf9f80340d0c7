"""What of an event's body was left out, and which changes of a call an event is one of."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options
from trunkline_store.types import Json, Text

revision = "0010"
down_revision = "0003"


def upgrade() -> None:
    """Adds the columns, and the index that finds a call's latest change."""
    op.add_column("events", sa.Column("warnings", Json, nullable=True))
    op.add_column("events", sa.Column("revises", Text(40), nullable=True))
    op.add_column("events", sa.Column("content", Text(64), nullable=True))
    op.create_index(
        "events_by_revised",
        "events",
        ["tenant_id", "revises", "received_at"],
        sqlite_where=sa.text("revises IS NOT NULL"),
        info=index_options(null_filtered=True, storing=("content",)),
    )
