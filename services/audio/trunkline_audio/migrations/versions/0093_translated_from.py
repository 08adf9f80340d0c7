"""The language that was spoken, of transcripts that are English renderings."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Text, on_spanner

revision = "0093"
down_revision = "0080"


def upgrade() -> None:
    """Adds the column; transcripts that are there are in the language that was spoken."""
    op.add_column("transcripts", sa.Column("translated_from", Text(35), nullable=False, server_default=""))
    if on_spanner(op.get_bind().dialect):
        op.execute("ALTER INDEX transcripts_by_time ADD STORED COLUMN translated_from")
