"""Admission takes the sources in turns: what it took ahead of its cursor, and the marks by source.

And when a change of a call was told last.
"""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options
from trunkline_store.types import UtcTimestamp

revision = "0030"
down_revision = "0022"


def upgrade() -> None:
    """Adds the table and the cursor's token, and puts an index by source in the place of the one by time."""
    op.add_column("cursors", sa.Column("token", sa.BigInteger, nullable=True))
    op.add_column("events", sa.Column("told_at", UtcTimestamp, nullable=True))
    op.create_table(
        "admitted_ahead",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.create_index(
        "receipts_pending_by_source",
        "receipts",
        ["pending", "source_id", "received_at"],
        sqlite_where=sa.column("pending").is_not(None),
        info=index_options(null_filtered=True),
    )
    op.drop_index("receipts_pending", "receipts")
