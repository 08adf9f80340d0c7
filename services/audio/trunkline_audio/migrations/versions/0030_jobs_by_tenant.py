"""Jobs are known by their tenant and their id, as everything else of a tenant is."""

import trunkline_jobs
from alembic import op

revision = "0030"
down_revision = "0020"


def upgrade() -> None:
    """Gives the queue of operations its new key; every row stays."""
    trunkline_jobs.create_v3(op)
