"""How sure a transcript's language is, and the one that was asked for and not heard."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Text, on_spanner

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds both columns; transcripts that are there were made by an engine that did not detect languages."""
    op.add_column(
        "transcripts", sa.Column("language_confidence", sa.Float, nullable=False, server_default=sa.text("0"))
    )
    op.add_column("transcripts", sa.Column("overruled_language", Text(35), nullable=False, server_default=""))
    if on_spanner(op.get_bind().dialect):
        # What a list shows stands in its index there; an index is not rebuilt for another stored column.
        for column in ("language_confidence", "overruled_language"):
            op.execute(f"ALTER INDEX transcripts_by_time ADD STORED COLUMN {column}")
