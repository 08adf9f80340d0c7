"""What lists find a call's analyses by."""

from alembic import op
from trunkline_store.declare import index_options

revision = "0010"
down_revision = "0002"


def upgrade() -> None:
    """Adds the index."""
    columns = ["tenant_id", "call_id", "created_at", "analysis_id"]
    op.create_index("analyses_by_call", "analyses", columns, info=index_options())
