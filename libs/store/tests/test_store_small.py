"""Clocks and Spanner's declarations."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from trunkline_store import FakeClock, SystemClock, Text
from trunkline_store.declare import index_options, table_options
from trunkline_store.testing.schema import undeclared


def test_the_fake_clock_moves_only_when_told():
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert clock.now() == clock.now()
    clock.advance(1.5)
    clock.advance(timedelta(minutes=-1))
    assert clock.now() == datetime(2025, 12, 31, 23, 59, 1, 500000, tzinfo=UTC)
    clock.set(datetime(2026, 5, 1, tzinfo=UTC))
    assert clock.now() == datetime(2026, 5, 1, tzinfo=UTC)


def test_the_system_clock_is_aware_and_in_utc():
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_declarations_for_spanner_are_checked():
    metadata = sa.MetaData()
    sa.Table("parents", metadata, sa.Column("parent_id", Text(40), primary_key=True))
    child = sa.Table(
        "children",
        metadata,
        sa.Column("parent_id", Text(40), primary_key=True),
        sa.Column("made_at", sa.Integer),
        info=table_options(interleave_in="parents", expire=("made_at", 30)),
    )
    sa.Index("children_made", child.c.made_at, info=index_options(storing=["parent_id"], null_filtered=True))
    assert undeclared(metadata) == []
    sa.Table(
        "orphans",
        metadata,
        sa.Column("orphan_id", Text(40), primary_key=True),
        info=table_options(interleave_in="nobody", expire=("gone", 1), key=("orphan_id", "lost")),
    )
    sa.Index("children_bad", child.c.made_at, child.c.parent_id, info=index_options(storing=["missing"]))
    assert len(undeclared(metadata)) == 4
