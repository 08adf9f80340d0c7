"""Lanes, locks, the log: what the SQLite engine promises beside the conformance suite."""

import asyncio
import os
import sqlite3
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager, closing

import pytest
import sqlalchemy as sa
from trunkline_store import Database, Pressure, StoreLocked, SystemClock
from trunkline_store.sqlite import appender, writer
from trunkline_store.sqlite.checkpoint import FEW_COMMITS, Checkpointer
from trunkline_store.sqlite.connect import connect_writer
from trunkline_store.sqlite.demand import demand_of
from trunkline_store.sqlite.engine import SqliteDatabase, open_url
from trunkline_store.sqlite.lock import FileLock
from trunkline_store.sqlite.transaction import Transaction
from trunkline_store.testing.conformance import ENTRIES, METADATA, add, ids, labels, thing

MOST_WRITTEN = 2 << 30
"""By then the slowest copying has reset a log of a few megabytes."""


@asynccontextmanager
async def saturated(tasks):
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def busy(conn):
    """A callback that holds the writer for 3 ms of work."""
    until = time.perf_counter() + 0.003
    while time.perf_counter() < until:
        conn.exec_driver_sql("SELECT 1")


async def commits_until(db, work):
    before = db._writer.commits
    await work()
    return db._writer.commits - before


async def test_a_write_is_served_within_a_few_turns_of_saturating_appends(db):
    appender = db.appender(ENTRIES)

    async def floods():
        while True:  # more than a batch holds, so that rows wait at every moment
            await asyncio.gather(*[appender.append(("flood", None, b"x" * 500)) for _ in range(30)])

    async with saturated([floods() for _ in range(64)]):
        turns = [await commits_until(db, lambda n=n: db.write(add(**thing(str(n))))) for n in range(50)]
    assert sorted(turns)[25] <= 4
    assert len(await db.read(labels)) > 50


def test_a_commit_takes_few_rows_whole_and_of_many_about_half_in_few_sizes():
    assert [appender.lot(n) for n in (0, 1, 16)] == [0, 1, 16]
    lots = {waiting: appender.lot(waiting) for waiting in range(17, 5000)}
    assert all(16 <= taken <= waiting and taken % 16 == 0 for waiting, taken in lots.items())
    assert all(lots[waiting] <= max(32, waiting // 2) for waiting in lots)
    assert (lots[63], lots[200], lots[4999]) == (32, 96, appender.ROWS_A_BATCH)


async def test_few_rows_to_a_commit_press_and_nobody_after_a_while(db):
    appender = db.appender(ENTRIES)
    for n in range(30):
        await appender.append((str(n), None, b""))
        assert db.pressure is Pressure.SOME
    async with asyncio.timeout(10):
        while db.pressure is not Pressure.NONE:
            await asyncio.sleep(0.01)


async def test_an_append_is_served_within_a_few_turns_of_saturating_writes(db):
    appender = db.appender(ENTRIES)

    async def floods():
        while True:
            await db.write(busy)

    async with saturated([floods() for _ in range(64)]):
        turns = [await commits_until(db, lambda n=n: appender.append((str(n), None, b""))) for n in range(50)]
    assert sorted(turns)[25] <= 3


async def test_appends_and_callbacks_both_go_on_while_both_crowd(db):
    appender = db.appender(ENTRIES)
    done = Counter()

    async def appends():
        while True:
            await appender.append(("flood", None, b"x" * 2500))
            done["appends"] += 1

    async def writes():
        while True:
            await db.write(busy)
            done["writes"] += 1

    async with saturated([*[appends() for _ in range(64)], *[writes() for _ in range(16)]]):
        started = time.perf_counter()
        while min(done["appends"] / 1000, done["writes"] / 40) < 1:
            await asyncio.sleep(0.01)
            assert time.perf_counter() - started < 60, done


class Turns:
    """A writer over a real file whose turns are taken one by one, by a clock of the test's own.

    `used` is the part of a processor that the process uses.
    """

    def __init__(self, path):
        self.now, self.used, self.spent, self._spent_at = 100.0, 1.0, 0.0, 100.0
        self.raw = connect_writer(path)
        self.writer = writer.Writer(
            Transaction(self.raw),
            asyncio.get_running_loop(),
            max_calls=100,
            clock=lambda: self.now,
            demand=self._spend,
        )
        self.ran = []

    def _spend(self):
        self.spent += (self.now - self._spent_at) * self.used
        self._spent_at = self.now
        return self.spent

    def submit(self, name, seconds=0.0, *, background=False):
        def work(conn):
            self.ran.append(name)
            self.now += seconds

        return self.writer.submit(work, background=background)

    def turn(self):
        """Take one turn if there is work; what ran."""
        self.ran.clear()
        if self.writer._has_work():
            self.writer._turn()
        return list(self.ran)

    def crowd(self):
        """Let the foreground have many callbacks to a commit, for a while."""
        for _ in range(30):
            for _ in range(20):
                self.submit("f")
            self.turn()


@pytest.fixture
async def turns(tmp_path):
    turns = Turns(tmp_path / "turns.db")
    with closing(turns.raw):
        yield turns


async def test_the_background_gets_a_fixed_share_of_the_writer_while_the_foreground_crowds(turns):
    turns.crowd()
    background, begun = 0.0, turns.now
    turns.submit("b", 0.002, background=True)
    while turns.now < begun + 2:
        for _ in range(20):
            turns.submit("f", 0.0001)
        if "b" in turns.turn():
            background += 0.002
            turns.submit("b", 0.002, background=True)
    share = background / (turns.now - begun)
    assert share == pytest.approx(writer.BACKGROUND_WEIGHT, rel=0.2)


async def test_many_rows_to_a_commit_are_no_crowd_while_the_processor_has_time_to_spare(turns):
    def stream(seconds):
        until = turns.now + seconds
        while turns.now < until:
            for _ in range(20):
                turns.submit("f")
            turns.now += 0.01
            turns.turn()

    turns.used = writer.BUSY / 2
    stream(1.0)
    assert turns.writer.pressure is Pressure.SOME
    for _ in range(3):
        turns.submit("b", 0.005, background=True)
        assert turns.turn() == [], "it needs no commit of its own while others come"
        turns.submit("f")
        assert turns.turn() == ["f", "b"]
    turns.used = 1.0
    stream(1.0)
    assert turns.writer.pressure is Pressure.CROWD


async def test_the_background_has_the_writer_while_the_foreground_leaves_it(turns):
    for _ in range(5):
        turns.submit("b", 0.05, background=True)
        assert turns.turn() == ["b"]
    turns.crowd()
    for _ in range(2):
        turns.submit("b", 0.05, background=True)
    assert turns.turn() == ["b"]
    assert turns.turn() == [], "it has had its share, and others crowd"
    turns.now += 2 * writer.CROWD_SECONDS
    assert turns.turn() == ["b"], "nobody crowds any more"


async def test_the_foreground_goes_before_the_background_and_both_in_their_order(turns):
    for number in range(3):
        turns.submit(f"b{number}", background=True)
        turns.submit(f"f{number}")
    assert turns.turn() == ["f0", "f1", "f2", "b0", "b1", "b2"]


async def test_a_long_piece_of_background_work_has_a_turn_of_its_own(turns):
    for name in ("b0", "b1"):
        turns.submit(name, 0.05, background=True)
    assert turns.turn() == ["b0"]
    turns.submit("f")
    assert turns.turn() == ["f", "b1"]


async def test_a_closing_writer_waits_for_nothing_in_the_background(turns):
    turns.crowd()
    for _ in range(2):
        turns.submit("b", 0.05, background=True)
    assert turns.turn() == ["b"]
    turns.writer.refuse()
    assert turns.turn() == ["b"]


async def test_many_share_one_commit(db):
    await db.appender(ENTRIES).append(("warm", None, None))
    before = db._writer.commits
    await asyncio.gather(*[db.appender(ENTRIES).append((str(n), None, None)) for n in range(400)])
    assert db._writer.commits - before <= 10


async def test_the_log_is_reset_under_saturation(url, tmp_path):
    options = {"migrations": None, "readers": 4, "clock": SystemClock(), "log_bytes": 4 << 20}
    log = tmp_path / "store.db-wal"
    async with await open_url(sa.make_url(url), METADATA, **options) as db:
        appender = db.appender(ENTRIES)
        written = 0

        def starts_anew():
            # However fast the disk is: a log that is not reset has grown as long as all that was written.
            return written > 2 * log.stat().st_size

        async def floods():
            nonlocal written
            while not starts_anew():
                await appender.append(("flood", None, b"x" * 20_000))
                written += 20_000
                assert written < MOST_WRITTEN

        async with asyncio.timeout(60):
            await asyncio.gather(*[floods() for _ in range(64)])


async def test_an_idle_store_folds_its_log_into_the_file(db):
    await db.write(add(**thing("one", raw=b"x" * 200_000)))
    async with asyncio.timeout(30):
        while db._checkpointer.idle_at != db._writer.commits:
            await asyncio.sleep(0.01)


def test_a_few_commits_are_copied_together_and_many_at_once(tmp_path):
    path = tmp_path / "store.db"
    with closing(connect_writer(path)) as raw:
        begun = time.monotonic()
        checkpointer = Checkpointer(path, raw, lambda: 0, lambda task: task())
    checkpointer.idle_at = 100
    long = begun + 60
    assert not checkpointer.is_due(100, long)
    assert not checkpointer.is_due(101, begun)
    assert checkpointer.is_due(101, long)
    assert checkpointer.is_due(100 + FEW_COMMITS, begun)


async def test_a_second_open_of_the_same_file_is_refused(url, tmp_path):
    async with await Database.open(url, METADATA) as first:
        with pytest.raises(StoreLocked, match=f"is open in process {os.getpid()}$"):
            await Database.open(url, METADATA)
        await first.write(add(**thing("one")))
    async with await Database.open(url, METADATA) as second:
        assert await second.read(ids) == ["one"]
        await second.close()
        await second.close()  # again is harmless
    assert not (tmp_path / "store.db-wal").exists()


async def test_acknowledged_means_fsynced(db):
    def settings(conn):
        names = ("journal_mode", "synchronous", "wal_autocheckpoint", "foreign_keys")
        return {name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}

    assert await db.write(settings) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "wal_autocheckpoint": 0,
        "foreign_keys": 1,
    }


async def test_the_memory_for_pages_is_as_it_is_told(url):
    def pages(conn):
        return conn.exec_driver_sql("PRAGMA cache_size").scalar_one()

    async with await Database.open(url, METADATA, page_bytes=4 << 20) as db:
        assert await db.write(pages) == -4096  # KiB
        assert [await ask(pages) for ask in (db.read, db.scan, db.peek)] == [-1024] * 3


async def test_small_parameter_limits_are_kept_to(tmp_path):
    path = tmp_path / "store.db"
    raw = connect_writer(path)
    raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)  # an old build of SQLite
    table = sa.Table("wide", sa.MetaData(), *[sa.Column(f"c{n}", sa.Integer) for n in range(60)])
    async with SqliteDatabase(path, FileLock(path), raw, readers=1, clock=SystemClock()) as db:
        db.start()
        await db.write(table.metadata.create_all)
        appender = db.appender(table)
        await asyncio.gather(*[appender.append(tuple(range(60))) for _ in range(500)])
        assert appender._rows_a_statement == 16
        counted = sa.select(sa.func.count()).select_from(table)
        assert await db.read(lambda conn: conn.execute(counted).scalar_one()) == 500


async def test_reads_run_beside_each_other(url):
    async with await Database.open(url, METADATA, readers=3) as db:
        gate = asyncio.Barrier(3)
        loop = asyncio.get_running_loop()

        def meets(conn):
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(30)
            return ids(conn)

        assert await asyncio.gather(*[db.read(meets) for _ in range(3)]) == [[], [], []]


def test_a_long_reader_lets_the_log_grow_and_does_not_hold_the_writer(tmp_path):
    """A backup reads one snapshot for seconds: a reset that waits for it would stop every commit meanwhile."""
    path, seen, turn = tmp_path / "store.db", Counter(), threading.Lock()
    raw = connect_writer(path)
    raw.execute("CREATE TABLE things (raw BLOB)")

    def looked():
        seen["looked"] += 1
        return seen["commits"]

    def between_turns(task):
        seen["reset"] += 1
        with turn:
            task()

    def write_until(reached):
        until = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < until
            with turn:
                raw.execute("INSERT INTO things VALUES (zeroblob(100000))")
                seen["commits"] += 1

    checkpointer = Checkpointer(path, raw, looked, between_turns, 1 << 20)
    checkpointer.start()
    with closing(raw), closing(sqlite3.connect(path, isolation_level=None)) as reader:
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM things").fetchone()
            write_until(lambda: checkpointer.pinned)
            before = Counter(seen)
            write_until(lambda: seen["looked"] >= before["looked"] + 4)
            assert seen["reset"] == before["reset"]
            reader.execute("ROLLBACK")
            restarts = checkpointer.restarts
            write_until(lambda: checkpointer.restarts > restarts)
            assert not checkpointer.pinned
        finally:
            checkpointer.stop()


def test_what_a_thread_asks_for_is_what_it_uses_and_waits_for_at_least():
    demand = demand_of(threading.get_native_id())
    before, until = demand(), time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    assert demand() - before >= 0.04


def test_of_a_thread_that_the_system_does_not_know_it_is_what_the_process_uses():
    assert demand_of(threading.get_native_id(), 1 << 30) is time.process_time
