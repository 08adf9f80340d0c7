"""What an engine used for a transcript."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Json

revision = "0019"
down_revision = "0010"


def upgrade() -> None:
    """Adds the column; nothing is known of transcripts that are there."""
    op.add_column("transcripts", sa.Column("usage", Json, nullable=True))
