"""What keeps the work of recording a call apart from how many calls its lead and how many events it has."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Json

revision = "0030"
down_revision = "0020"


def upgrade() -> None:
    """Adds the columns; they are filled by the next event of each call."""
    op.add_column("leads", sa.Column("tally", Json, nullable=True))
    op.add_column("calls", sa.Column("events_sum", sa.BigInteger, nullable=True))
