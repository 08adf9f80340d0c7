"""Transcripts that another engine than the wanted one made, and the queue of tasks that have them made again."""

import sqlalchemy as sa
import trunkline_jobs
from alembic import op
from trunkline_store.types import Json, Text, UtcTimestamp, on_spanner

revision = "0060"
down_revision = "0050"


def upgrade() -> None:
    """Adds the columns and the queue; transcripts that are there were made by the engine that was wanted."""
    op.add_column("transcripts", sa.Column("wanted_engine", Text(128), nullable=False, server_default=""))
    op.add_column("transcripts", sa.Column("again_at", UtcTimestamp, nullable=True))
    op.add_column("transcripts", sa.Column("asked", Json, nullable=True))
    if on_spanner(op.get_bind().dialect):
        for column in ("wanted_engine", "again_at"):
            op.execute(f"ALTER INDEX transcripts_by_time ADD STORED COLUMN {column}")
    trunkline_jobs.create_v1(op, "tasks")
    trunkline_jobs.create_v2(op, "tasks")
    trunkline_jobs.create_v3(op, "tasks")
