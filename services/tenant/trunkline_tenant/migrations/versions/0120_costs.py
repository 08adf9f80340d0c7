"""What engines cost tenants, and their budgets."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options, table_options
from trunkline_store.types import Bytes, Text, UtcTimestamp

revision = "0120"
down_revision = "0110"

_COUNTED = ("answers", "unpriced", "input_tokens", "output_tokens", "audio_us", "cost_micros")


def upgrade() -> None:
    """Adds the budget and three tables; what was answered before is not counted."""
    op.add_column("tenants", sa.Column("budget", Bytes, nullable=True))
    op.create_table(
        "charges",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("charge_id", Text(64), primary_key=True),
        sa.Column("expire_at", UtcTimestamp, nullable=False),
        info=table_options(expire=("expire_at", 0)),
    )
    op.create_index("charges_by_expiry", "charges", ["tenant_id", "expire_at"], info=index_options())
    op.create_table(
        "day_costs",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("day", Text(10), primary_key=True),
        sa.Column("service", Text(40), primary_key=True),
        sa.Column("engine", Text(64), primary_key=True),
        *_counted(),
    )
    op.create_table(
        "month_costs",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("month", Text(7), primary_key=True),
        *_counted(),
    )
    op.create_index(
        "month_costs_by_month", "month_costs", ["month", "tenant_id"], info=index_options(storing=_COUNTED)
    )


def _counted() -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTED]
