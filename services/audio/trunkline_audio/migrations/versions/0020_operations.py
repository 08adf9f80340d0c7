"""Long-running operations, and the queue that they are worked on through."""

import trunkline_jobs
from alembic import op
from trunkline_jobs.operations import create_operations_v1

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Creates the tables."""
    trunkline_jobs.create_v1(op)
    trunkline_jobs.create_v2(op)
    create_operations_v1(op)
