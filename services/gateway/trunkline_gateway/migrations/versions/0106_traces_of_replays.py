"""Which trace an event that is replayed is in."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Text

revision = "0106"
down_revision = "0090"


def upgrade() -> None:
    """Adds the column; what was replayed before goes on in the trace of its receipt."""
    op.add_column("events", sa.Column("trace_id", Text(32), nullable=True))
