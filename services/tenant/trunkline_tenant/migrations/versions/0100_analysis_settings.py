"""How a tenant's conversations are analysed."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Bytes

revision = "0100"
down_revision = "0060"


def upgrade() -> None:
    """Adds the settings; NULL is the suite's own."""
    op.add_column("tenants", sa.Column("analysis_settings", Bytes, nullable=True))
