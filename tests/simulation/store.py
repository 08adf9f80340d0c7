"""The stores: real SQLite in memory under real transactions; refusals, aborts and deaths around each commit."""

import asyncio
import errno
import sqlite3

from sqlalchemy.dialects import sqlite as sqlite_dialect
from trunkline_store.appender import Appender, row_columns
from trunkline_store.database import Database
from trunkline_store.errors import StoreBusy, StoreUnavailable
from trunkline_store.sqlite.engine import SqliteDatabase
from trunkline_store.sqlite.errors import translate
from trunkline_store.sqlite.statements import RowForm
from trunkline_store.sqlite.transaction import Transaction

from tests.simulation.virtual import LoopClock


class Disk:
    """One database file: it outlives the processes. Made once a process, wiped for each schedule."""

    def __init__(self, metadata):
        self.raw = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=512
        )
        self.tx = Transaction(self.raw)
        self.tx.begin()
        self.tx.call(metadata.create_all)
        self.tx.commit()
        self._empty = [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]
        self._sequences = self.raw.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
        ).fetchone()
        self.watch = None  # called after each commit
        self.forms = {}

    def wipe(self, watch=None):
        self.watch = None
        self.tx.rollback()
        for statement in self._empty:
            self.raw.execute(statement)
        if self._sequences:
            self.raw.execute("DELETE FROM sqlite_sequence")
        self.watch = watch

    def close(self):
        """Let go of the memory: SQLAlchemy keeps every connection that was not closed, and all it leads to."""
        self.tx.close()

    def run(self, fn):
        """Run a callback in a transaction that stays open."""
        self.tx.begin()
        try:
            return self.tx.call(fn)
        except BaseException as error:
            self.tx.rollback()
            known = translate(error)
            if known is error:
                raise
            raise known from error

    def commit(self):
        self.tx.commit()
        if self.watch is not None:
            self.watch(self.raw)


class SimDatabase(Database):
    """A Database as one life of one process holds it."""

    engine = "sqlite"
    features = SqliteDatabase.features

    def __init__(self, disk, life, world, name):
        self.disk, self._life, self._world, self._name = disk, life, world, name
        self.clock = LoopClock()
        self._appenders = {}

    async def read(self, fn, *, staleness=None):
        await asyncio.sleep(self._world.faults.io())
        self._life.check()
        if self._world.faults.refuses(self._name):
            raise StoreUnavailable("injected: the store cannot be read")
        try:
            return self.disk.run(fn)
        finally:
            self.disk.tx.rollback()

    async def write(self, fn, *, background=False):
        # Work that was taken goes on when its awaiter is cancelled.
        return await asyncio.shield(self._life.spawn(self._write(fn)))

    async def _write(self, fn):
        await asyncio.sleep(self._world.faults.io())
        return await self.transact(fn)

    async def transact(self, fn):
        """One transaction with whatever goes wrong around its commit."""
        life, faults, disk = self._life, self._world.faults, self.disk
        life.check()
        if faults.refuses(self._name):
            raise StoreUnavailable("injected: the store cannot be written")
        if faults.chance("abort"):  # an engine may run a callback again
            disk.run(fn)
            disk.tx.rollback()
        value = disk.run(fn)
        if faults.chance("die_before_commit"):
            disk.tx.rollback()
            await die(life, faults)
        if faults.chance("lose_commit"):
            disk.tx.rollback()
            raise StoreUnavailable("injected: the commit failed")
        disk.commit()
        if faults.chance("die_after_commit"):
            await die(life, faults)
        if faults.chance("lose_outcome"):
            raise StoreUnavailable("injected: committed, and nobody was told")
        return value

    def appender(self, table, *, max_rows=4096, max_bytes=64 << 20):
        if table.name not in self._appenders:
            self._appenders[table.name] = SimAppender(self, table, self._life, self._world, max_rows)
        return self._appenders[table.name]

    async def check(self):
        await self.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one())

    def stats(self):
        raise NotImplementedError

    async def close(self):
        pass


class SpoolDisk:
    """Runs what the spool does with its real files, one thing at a time, with whatever goes wrong around it."""

    def __init__(self, life, world):
        self._life, self._world = life, world
        self._turn = asyncio.Lock()

    async def __call__(self, work, *given):
        life, faults = self._life, self._world.faults
        async with self._turn:
            await asyncio.sleep(faults.append_io())
            life.check()
            if faults.refuses("spool"):
                raise OSError(errno.ENOSPC, "injected: the spool's disk is full")
            if faults.chance("die_before_commit"):
                await die(life, faults)
            if faults.chance("lose_commit"):
                raise OSError(errno.EIO, "injected: the write failed")
            value = work(*given)
            if faults.chance("die_after_commit"):
                await die(life, faults)
            if given and faults.chance("lose_outcome"):  # opening has no arguments, and tells
                raise OSError(errno.EIO, "injected: written, and nobody was told")
            return value


async def die(life, faults):
    """Kill the process that this runs in."""
    life.node.kill(faults.downtime())
    await asyncio.sleep(0)
    life.check()


class SimAppender(Appender):
    """The append path: rows that wait are inserted together, by the store's own statement."""

    def __init__(self, db, table, life, world, max_rows):
        self.columns = row_columns(table)
        self._form = db.disk.forms.setdefault(
            table.name, RowForm(table, self.columns, sqlite_dialect.dialect(paramstyle="qmark"))
        )
        self._db, self._life, self._world, self._max_rows = db, life, world, max_rows
        self._stored = None
        self._rows = []
        self._waiting = 0
        self._running = False

    @property
    def waiting(self):
        return self._waiting

    def tell(self, stored):
        self._stored = stored

    def append(self, row, size=0, *, background=False):
        self._life.check()
        if self._waiting >= self._max_rows:
            raise StoreBusy("too many rows wait")
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._rows.append((row, future))
        self._waiting += 1
        if not self._running:
            self._running = True
            self._life.spawn(self._drain())
        return future

    async def _drain(self):
        while self._rows:
            await asyncio.sleep(self._world.faults.append_io())
            batch, self._rows = self._rows, []
            rows, error = [row for row, _ in batch], None
            try:
                last = await self._db.transact(lambda conn: self._insert(conn, rows))  # noqa: B023
                if self._stored is not None:
                    self._stored(last - len(rows) + 1, rows)
            except StoreUnavailable as unavailable:
                error = unavailable
            self._waiting -= len(batch)
            for _, future in batch:
                if not future.done():
                    if error is None:
                        future.set_result(None)
                    else:
                        future.set_exception(error)
        self._running = False

    def _insert(self, conn, rows):
        self._form.insert(conn, rows)
        return conn.exec_driver_sql("SELECT last_insert_rowid()").scalar_one()
