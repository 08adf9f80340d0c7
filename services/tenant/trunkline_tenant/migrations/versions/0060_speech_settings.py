"""How a tenant's recordings are transcribed."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Bytes

revision = "0060"
down_revision = "0050"


def upgrade() -> None:
    """Adds the settings; NULL is the suite's own."""
    op.add_column("tenants", sa.Column("speech_settings", Bytes, nullable=True))
