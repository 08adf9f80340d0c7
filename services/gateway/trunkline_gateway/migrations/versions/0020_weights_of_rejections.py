"""What each rejected request weighs, and an index that finds a source's latest without a look at their bodies."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options
from trunkline_store.types import on_spanner

revision = "0020"
down_revision = "0010"


def upgrade() -> None:
    """Adds the column, weighs what is there, and adds the index.

    Headers of any size were kept before: larger ones than can be listed go. On Spanner what is there weighs nothing;
    a cell of it was never large.
    """
    weight = sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    op.add_column("rejections", weight)
    if not on_spanner(op.get_bind().dialect):
        op.execute("UPDATE rejections SET headers = '{}' WHERE length(headers) > 65536")
        op.execute("UPDATE rejections SET stored_bytes = size_bytes + length(headers) + length(url) + 512")
    op.create_index(
        "rejections_by_source",
        "rejections",
        ["tenant_id", "source_id", "received_at", "rejection_id", "stored_bytes"],
        info=index_options(),
    )
