"""Rows are deleted a few at a time, only those that fit, whatever the shape of the key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from trunkline_store import Database, Text, UtcTimestamp
from trunkline_store.records.deletion import delete_all, delete_some

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
metadata = sa.MetaData()
things = sa.Table(
    "things",
    metadata,
    sa.Column("owner", Text(40), primary_key=True),
    sa.Column("at", UtcTimestamp, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
)


@pytest.fixture
async def db(tmp_path):
    async with await Database.open(f"sqlite:///{tmp_path}/things.db", metadata) as db:
        rows = [
            {"owner": owner, "at": NOW + timedelta(microseconds=n), "number": n}
            for owner in "ab"
            for n in range(50)
        ]
        await db.write(lambda conn: conn.execute(things.insert(), rows))
        yield db


async def count(db, *where):
    query = sa.select(sa.func.count()).select_from(things).where(*where)
    return await db.read(lambda conn: conn.execute(query).scalar_one())


async def test_only_what_fits_is_deleted_in_small_transactions(db, monkeypatch):
    writes = []

    async def write(fn, **lane):
        writes.append(fn)
        return await type(db).write(db, fn, **lane)

    monkeypatch.setattr(db, "write", write)
    assert await delete_all(db, things, things.c.owner == "a", a_transaction=20) == 50
    assert len(writes) == 3
    assert (await count(db, things.c.owner == "a"), await count(db)) == (0, 50)
    assert await delete_all(db, things, things.c.owner == "a") == 0


async def test_no_more_than_asked_for(db):
    assert await delete_all(db, things, things.c.at >= NOW, a_transaction=20, most=45) == 45
    assert await count(db) == 55
    assert await db.write(lambda conn: delete_some(conn, things, things.c.at > NOW, 7)) == 7
    assert await count(db) == 48
