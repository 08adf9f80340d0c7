"""What events are found by: their last change, their call, the provider's id of it, and their receipts' ids."""

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import index_options
from trunkline_store.types import Text, UtcTimestamp

revision = "0040"
down_revision = "0030"


_RECEIPTS = sa.table("receipts", sa.column("seq"), sa.column("receipt_id"))
_LINKS = [
    sa.table(name, sa.column("seq"), sa.column("receipt_id"))
    for name in ("event_receipts", "eventless_receipts")
]


def upgrade() -> None:
    """Adds the columns and indexes; fills in what older rows can be found by where one process owns the file."""
    op.add_column("events", sa.Column("updated_at", UtcTimestamp, nullable=True))
    op.add_column("events", sa.Column("provider_call_id", Text(256), nullable=True))
    op.add_column("event_receipts", sa.Column("receipt_id", Text(32), nullable=True))
    op.add_column("eventless_receipts", sa.Column("receipt_id", Text(32), nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        op.execute("UPDATE events SET updated_at = coalesce(finished_at, received_at)")
        for links in _LINKS:
            of_link = (
                sa.select(_RECEIPTS.c.receipt_id).where(_RECEIPTS.c.seq == links.c.seq).scalar_subquery()
            )
            op.execute(sa.update(links).values(receipt_id=of_link))
    op.create_index(
        "events_by_update", "events", ["tenant_id", "updated_at", "event_id"], info=index_options()
    )
    op.create_index(
        "events_by_call", "events", ["tenant_id", "call", "received_at", "event_id"], info=index_options()
    )
    op.create_index(
        "events_by_provider_call",
        "events",
        ["tenant_id", "provider_call_id", "received_at", "event_id"],
        sqlite_where=sa.text("provider_call_id IS NOT NULL"),
        info=index_options(),
    )
    for table in ("event_receipts", "eventless_receipts"):
        op.create_index(f"{table}_by_id", table, ["tenant_id", "receipt_id"], info=index_options())
    op.create_index(
        "replays_by_time", "replays", ["tenant_id", "created_at", "replay_id"], info=index_options()
    )
