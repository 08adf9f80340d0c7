"""When SQLite itself fails: the group is done again one by one, and the store heals without a restart."""

import asyncio
import sqlite3

import pytest
import sqlalchemy as sa
from trunkline_store import (
    Conflict,
    Database,
    InvalidValue,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    StoreUnsupported,
)
from trunkline_store.clock import SystemClock
from trunkline_store.sqlite.connect import connect_writer
from trunkline_store.sqlite.engine import SqliteDatabase
from trunkline_store.sqlite.errors import translate
from trunkline_store.sqlite.lock import FileLock
from trunkline_store.sqlite.schema import prepare_schema
from trunkline_store.testing.conformance import ENTRIES, METADATA, add, ids, labels, thing


class Faulty(sqlite3.Connection):
    """A connection whose next commits fail with these errors, one each."""

    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.faults = []

    def commit(self):
        if self.faults:
            raise self.faults.pop(0)
        super().commit()


@pytest.fixture
def raw(tmp_path):
    """The connection that writes."""
    made = connect_writer(tmp_path / "store.db", Faulty)
    prepare_schema(made, METADATA, None)
    return made


@pytest.fixture
async def db(tmp_path, raw):
    """The store over it."""
    path = tmp_path / "store.db"
    async with SqliteDatabase(path, FileLock(path), raw, readers=2, clock=SystemClock()) as database:
        database.start()
        yield database


def driver_error(kind, code, name):
    error = kind("told")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


def full():
    return driver_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "SQLITE_FULL")


def limit_pages(raw, extra):
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count={pages + extra if extra is not None else 1 << 30}")


async def test_a_full_disk_refuses_and_heals(db, raw):
    appender = db.appender(ENTRIES)
    await appender.append(("before", None, b""))
    limit_pages(raw, 3)
    results = await asyncio.gather(
        *[appender.append((f"full{n}", None, b"x" * 5000)) for n in range(40)], return_exceptions=True
    )
    refused = [result for result in results if result is not None]
    assert refused
    assert all(isinstance(result, StoreUnavailable) for result in refused)
    with pytest.raises(StoreUnavailable):
        await db.write(add(**thing("big", raw=b"x" * 100_000)))
    limit_pages(raw, None)
    await appender.append(("after", None, b"x" * 5000))
    await db.write(add(**thing("big", raw=b"x" * 100_000)))
    kept = await db.read(labels)
    assert len(kept) == 2 + len(results) - len(refused)
    assert appender.waiting == 0


async def test_one_that_fills_the_disk_harms_no_other(db, raw):
    limit_pages(raw, 3)
    big = db.write(add(**thing("big", raw=b"x" * 100_000)))
    small = [db.write(add(**thing(f"small{n}"))) for n in range(3)]
    row = db.appender(ENTRIES).append(("row", None, b""))
    results = await asyncio.gather(big, *small, row, return_exceptions=True)
    assert isinstance(results[0], StoreUnavailable)
    assert results[1:] == [None] * 4
    assert await db.read(ids) == ["small0", "small1", "small2"]


async def test_a_commit_that_fails_for_the_group_is_done_again_one_by_one(db, raw):
    runs = []
    raw.faults = [full()]

    def work(number):
        def callback(conn):
            runs.append(number)
            add(**thing(f"t{number}"))(conn)
            if number == 2:
                raise ValueError(number)
            return number

        return callback

    row = db.appender(ENTRIES).append(("row", None, None))
    results = await asyncio.gather(*[db.write(work(n)) for n in range(5)], row, return_exceptions=True)
    assert results[0:2] == [0, 1]
    assert isinstance(results[2], ValueError)
    assert results[3:] == [3, 4, None]
    assert await db.read(ids) == ["t0", "t1", "t3", "t4"]
    assert await db.read(labels) == ["row"]
    assert len(runs) > 5  # some ran twice, and took effect once
    assert not raw.faults


async def test_an_interrupted_commit_is_reported_to_a_single_caller(db, raw):
    raw.faults = [full(), full()]  # of its group, and of it alone
    with pytest.raises(StoreUnavailable):
        await db.write(add(**thing("one")))
    assert not raw.faults
    await db.write(add(**thing("two")))
    assert await db.read(ids) == ["two"]


async def test_a_writer_that_dies_fails_its_callers_and_health(db, raw):
    raw.faults = [RuntimeError("a fault of ours")]
    with pytest.raises(StoreUnavailable, match="a fault of ours"):
        await db.write(ids)
    with pytest.raises(StoreUnavailable):
        await db.check()
    with pytest.raises(StoreUnavailable):
        db.appender(ENTRIES).append(("x", None, None))


async def test_a_file_that_is_no_database_is_damaged(tmp_path):
    (tmp_path / "bad.db").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StoreDamaged):
        await Database.open(f"sqlite:///{tmp_path}/bad.db", METADATA)
    (tmp_path / "bad.db").unlink()  # the lock was let go: the same place opens again
    async with await Database.open(f"sqlite:///{tmp_path}/bad.db", METADATA):
        pass


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro", "mysql://h/d"])
async def test_urls_that_are_not_understood_are_refused(url):
    with pytest.raises(StoreUnsupported):
        await Database.open(url, METADATA)


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        await Database.open(f"sqlite:///{tmp_path}/file/store.db", METADATA)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (driver_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "SQLITE_FULL"), StoreUnavailable),
        (driver_error(sqlite3.OperationalError, sqlite3.SQLITE_IOERR_FSYNC, "FSYNC"), StoreUnavailable),
        (driver_error(sqlite3.OperationalError, sqlite3.SQLITE_BUSY_SNAPSHOT, "BUSY"), StoreUnavailable),
        (driver_error(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT, "CORRUPT"), StoreDamaged),
        (driver_error(sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_UNIQUE, "UNIQUE"), Conflict),
        (driver_error(sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_CHECK, "CHECK"), InvalidValue),
        (driver_error(sqlite3.DataError, sqlite3.SQLITE_TOOBIG, "TOOBIG"), InvalidValue),
        (driver_error(sqlite3.OperationalError, sqlite3.SQLITE_ERROR, "ERROR"), StoreError),
        (OverflowError("int too large"), InvalidValue),
        (MemoryError(), StoreUnavailable),
        (sa.exc.IntegrityError("s", {}, driver_error(sqlite3.IntegrityError, 2067, "UNIQUE")), Conflict),
        (KeyError("not ours"), KeyError),
    ],
    ids=lambda value: getattr(value, "sqlite_errorname", getattr(value, "__name__", type(value).__name__)),
)
def test_drivers_errors_are_told_as_the_stores(error, expected):
    assert type(translate(error)) is expected


async def test_rows_are_told_with_their_numbers_once_they_are_durable(db, raw):
    told, appender = {}, db.appender(ENTRIES)
    appender.tell(lambda first, rows: told.update(enumerate((row[0] for row in rows), first)))
    raw.faults = [driver_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "SQLITE_FULL")]
    rows = [appender.append((str(n), None, b"x")) for n in range(40)]
    await asyncio.gather(db.write(add(**thing("beside"))), *rows)
    assert raw.faults == [], "their commit failed, and they were written again"
    outcomes = await asyncio.gather(
        *[appender.append((name, None, b"x")) for name in ("a", "\0", "b")], return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), InvalidValue, type(None)]
    stored = sa.select(ENTRIES.c.entry_id, ENTRIES.c.label)
    assert told == dict(await db.read(lambda conn: [tuple(row) for row in conn.execute(stored)]))
