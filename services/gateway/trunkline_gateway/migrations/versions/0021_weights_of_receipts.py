"""What undecided receipts weigh, and how large a body was that a redelivery repeated and that is not kept twice."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Adds the columns."""
    weight = sa.Column("weight", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    op.add_column("undecided_receipts", weight)
    op.add_column("event_receipts", sa.Column("repeated_bytes", sa.BigInteger, nullable=True))
