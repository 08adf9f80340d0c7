"""The marks of jobs that ended without a worker to tell their calls."""

import trunkline_jobs
from alembic import op

revision = "0060"
down_revision = "0050"


def upgrade() -> None:
    """Adds the marks and their index; of jobs that ended before nobody is told."""
    trunkline_jobs.create_v2(op)
