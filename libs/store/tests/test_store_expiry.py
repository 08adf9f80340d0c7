"""When a row's time has come, in Python and in a query."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from trunkline_store import UtcTimestamp
from trunkline_store.records.expiry import expiry, is_over, lives, overdue

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEPT = sa.Table(
    "kept", sa.MetaData(), sa.Column("tenant_id", sa.String), sa.Column("expire_at", UtcTimestamp)
)


def test_the_maker_says_else_the_days_else_nobody():
    assert expiry(NOW + DAY, 5, NOW) == NOW + DAY
    assert expiry(None, 5, NOW) == NOW + 5 * DAY
    assert expiry(None, 0, NOW) is None


def test_a_query_and_python_agree_on_whose_time_has_come():
    moments = [None, NOW - DAY, NOW, NOW + DAY]
    engine = sa.create_engine("sqlite://")
    with engine.connect() as conn:
        KEPT.metadata.create_all(conn)
        conn.execute(KEPT.insert(), [{"tenant_id": "acme", "expire_at": moment} for moment in moments])
        conn.execute(KEPT.insert(), {"tenant_id": "other", "expire_at": NOW})
        mine = sa.select(KEPT.c.expire_at).where(KEPT.c.tenant_id == "acme")
        living = conn.execute(mine.where(lives(KEPT.c.expire_at, NOW))).scalars().all()
        late = conn.execute(sa.select(KEPT.c.expire_at).where(overdue(KEPT, "acme", NOW))).scalars().all()
    assert living == [moment for moment in moments if not is_over(moment, NOW)] == [None, NOW + DAY]
    assert late == [moment for moment in moments if is_over(moment, NOW)]
