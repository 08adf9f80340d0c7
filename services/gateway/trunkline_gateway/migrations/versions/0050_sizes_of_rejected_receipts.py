"""How large the body of a receipt was that became a rejection."""

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0040"


def upgrade() -> None:
    """Adds the column; of older rows nobody knows it."""
    op.add_column("eventless_receipts", sa.Column("size_bytes", sa.BigInteger, nullable=True))
