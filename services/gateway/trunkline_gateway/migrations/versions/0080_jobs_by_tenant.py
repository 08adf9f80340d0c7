"""Jobs are known by their tenant and their id, as everything else of a tenant is."""

import trunkline_jobs
from alembic import op

revision = "0080"
down_revision = "0070"


def upgrade() -> None:
    """Gives both queues their new key; every row stays."""
    trunkline_jobs.create_v3(op)
    trunkline_jobs.create_v3(op, "tasks")
