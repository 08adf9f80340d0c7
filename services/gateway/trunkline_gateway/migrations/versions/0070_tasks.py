"""The queue of the gateway's own work, which replays are worked on through.

Those that run get their task at the gateway's next start.
"""

import sqlalchemy as sa
import trunkline_jobs
from alembic import op
from trunkline_store.types import Text

revision = "0070"
down_revision = "0060"


def upgrade() -> None:
    """Creates the queue; a replay says why it failed, and no longer when it is due, which its task does."""
    trunkline_jobs.create_v1(op, "tasks")
    trunkline_jobs.create_v2(op, "tasks")
    op.add_column("replays", sa.Column("error", Text(600), nullable=True))
    op.drop_index("replays_by_due", "replays")
    op.drop_column("replays", "due_at")
