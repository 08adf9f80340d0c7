"""How many bytes of receipts each tenant has."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.types import Text, on_spanner

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Creates the table and counts what is there; on Spanner the count begins with what comes."""
    op.create_table(
        "kept_bytes",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    if not on_spanner(op.get_bind().dialect):
        op.execute(
            "INSERT INTO kept_bytes (tenant_id, part, bytes) SELECT l.tenant_id, 0,"
            " sum(length(r.body) + length(r.headers) + length(r.url) + 512)"
            " FROM event_receipts l JOIN receipts r ON r.seq = l.seq GROUP BY l.tenant_id"
        )
