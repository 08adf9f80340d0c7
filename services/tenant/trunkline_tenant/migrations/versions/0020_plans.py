"""The plan of a tenant."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0010"


def upgrade() -> None:
    """Adds the plan: 0 is the standard one."""
    plan = sa.Column("plan", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    op.add_column("tenants", plan)
