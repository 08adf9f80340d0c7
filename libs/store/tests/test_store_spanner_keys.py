"""Append-only tables on Spanner whose key derives from a unique column: found by it, and kept once."""

import pytest
import sqlalchemy as sa
from trunkline_store import Database, Text, insert_appended
from trunkline_store.declare import derived_key, key_from, pending_column

from tests.integration.spanner_emulator import spanner_url  # noqa: F401 - a fixture

METADATA = sa.MetaData()
LINES = sa.Table(
    "lines",
    METADATA,
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, info=key_from("line_id")
    ),
    sa.Column("line_id", Text(40), nullable=False),
    sa.Column("text", Text(40), nullable=False),
    pending_column(),
)


@pytest.fixture
async def db(spanner_url):  # noqa: F811
    async with await Database.open(spanner_url, METADATA) as db:
        yield db


async def rows(db):
    query = LINES.select().order_by(LINES.c.text)
    return [tuple(row) for row in await db.read(lambda conn: conn.execute(query).all())]


async def test_a_row_that_is_sent_again_is_kept_once_under_the_key_of_its_id(db):
    lines = db.appender(LINES)
    for _ in range(2):
        await lines.append(("l-1", "one"))
    key = derived_key("l-1")
    assert await rows(db) == [(key, "l-1", "one", key % 8)]


async def test_another_row_with_that_key_gets_one_of_its_own(db):
    lines = db.appender(LINES)
    await lines.append(("l-1", "one"))
    await lines.append(("l-1", "two"))  # as if another id had the same digest
    (_, first), (drawn, second) = [(row[0], row[2]) for row in await rows(db)]
    assert (first, second) == ("one", "two")
    assert drawn != derived_key("l-1")


async def test_a_transaction_appends_as_the_appender_does(db):
    await db.write(lambda conn: insert_appended(conn, LINES, {"line_id": "l-2", "text": "two"}))
    await db.appender(LINES).append(("l-2", "two"))
    key = derived_key("l-2")
    assert await rows(db) == [(key, "l-2", "two", key % 8)]


def test_keys_fit_and_spread_over_the_shards():
    keys = [derived_key(f"{n:032x}") for n in range(2000)]
    assert all(0 <= key < 1 << 63 for key in keys)
    assert len({key % 8 for key in keys}) == 8
    assert derived_key("0" * 32) == derived_key("0" * 32)


async def test_a_file_gives_its_own_keys(tmp_path):
    async with await Database.open(f"sqlite:///{tmp_path}/x.db", METADATA) as db:
        await db.appender(LINES).append(("l-1", "one"))
        await db.write(lambda conn: insert_appended(conn, LINES, {"line_id": "l-2", "text": "two"}))
        assert await rows(db) == [(1, "l-1", "one", None), (2, "l-2", "two", None)]
