"""Uploads, and what recordings with the same bytes are found by."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options
from trunkline_store.types import Bool, Json, Text, UtcTimestamp

revision = "0050"
down_revision = "0040"


def upgrade() -> None:
    """Creates the table and the index."""
    op.create_table(
        "uploads",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("upload_id", Text(40), primary_key=True),
        sa.Column("call", Text(200), nullable=False),
        sa.Column("headerless", Text(16), nullable=False),
        sa.Column("sha256", Text(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("recording_expire_at", UtcTimestamp, nullable=True),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("pieces", Json, nullable=False),
        sa.Column("writer", Text(40), nullable=False),
        sa.Column("writer_until", UtcTimestamp, nullable=True),
        sa.Column("recording_id", Text(40), nullable=False),
        sa.Column("existing", Bool, nullable=False),
        sa.Column("failure", Json, nullable=True),
        sa.Column("created_at", UtcTimestamp, nullable=False),
        sa.Column("expire_at", UtcTimestamp, nullable=False),
    )
    op.create_index("uploads_by_expiry", "uploads", ["tenant_id", "expire_at"], info=index_options())
    op.create_index("recordings_by_sha256", "recordings", ["tenant_id", "sha256"], info=index_options())
