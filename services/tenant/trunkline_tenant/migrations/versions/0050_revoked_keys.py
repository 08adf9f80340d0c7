"""When a key was revoked, so that its holder can be told."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import UtcTimestamp

revision = "0050"
down_revision = "0040"


def upgrade() -> None:
    """Adds the time; keys that were revoked earlier are gone."""
    op.add_column("api_keys", sa.Column("revoke_time", UtcTimestamp, nullable=True))
