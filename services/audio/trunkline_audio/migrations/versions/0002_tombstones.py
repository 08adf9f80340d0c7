"""Tombstones of deleted tenants."""

from alembic import op
from trunkline_store.records.tombstones import TABLE, tombstones_columns

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(TABLE, *tombstones_columns())
