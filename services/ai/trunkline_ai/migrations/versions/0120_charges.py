"""What engines' answers cost, until the tenant service is told."""

from alembic import op
from trunkline_store.records.outbox import outbox_columns

revision = "0120"
down_revision = "0110"


def upgrade() -> None:
    """Creates the table."""
    op.create_table("charges", *outbox_columns())
