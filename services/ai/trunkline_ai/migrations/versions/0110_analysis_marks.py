"""What lists find analyses by: the tenant's own labels and keywords."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options, table_options
from trunkline_store.types import Text, UtcTimestamp

revision = "0110"
down_revision = "0010"


def upgrade() -> None:
    """Creates the table with its indexes."""
    op.create_table(
        "analysis_marks",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("mark", Text(80), primary_key=True),
        sa.Column("analysis_id", Text(40), primary_key=True),
        sa.Column("expire_at", UtcTimestamp, nullable=True),
        info=table_options(expire=("expire_at", 0)),
    )
    columns = ["tenant_id", "analysis_id"]
    op.create_index("analysis_marks_by_analysis", "analysis_marks", columns, info=index_options())
    op.create_index(
        "analysis_marks_by_expiry",
        "analysis_marks",
        ["tenant_id", "expire_at"],
        info=index_options(null_filtered=True),
    )
