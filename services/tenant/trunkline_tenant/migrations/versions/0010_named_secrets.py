"""Lasting secrets beside a source's own, by name."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Text

revision = "0010"
down_revision = "0001"


def upgrade() -> None:
    """Adds the name."""
    op.add_column("source_secrets", sa.Column("label", Text(64), nullable=True))
