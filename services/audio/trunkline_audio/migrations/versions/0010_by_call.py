"""What lists find a call's recordings by."""

from alembic import op
from trunkline_store.declare import index_options

revision = "0010"
down_revision = "0003"


def upgrade() -> None:
    """Adds the index."""
    columns = ["tenant_id", "call", "created_at", "recording_id"]
    op.create_index("recordings_by_call", "recordings", columns, info=index_options())
