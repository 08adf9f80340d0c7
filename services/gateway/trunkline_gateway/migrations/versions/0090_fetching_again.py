"""Which events fetch their recordings again, and which replays ask for it."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Bool

revision = "0090"
down_revision = "0080"


def upgrade() -> None:
    """Adds the columns; nobody asked for it before."""
    op.add_column("events", sa.Column("fetch_generation", sa.Integer, nullable=True))
    op.add_column("replays", sa.Column("fetch_again", Bool, nullable=True))
