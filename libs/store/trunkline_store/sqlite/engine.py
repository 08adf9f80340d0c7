"""SQLite as an engine: one file, one process, one writer thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine import URL, Connection

from trunkline_store.appender import Appender
from trunkline_store.clock import Clock
from trunkline_store.database import Database, Pressure
from trunkline_store.errors import StoreUnavailable, StoreUnsupported
from trunkline_store.features import Features
from trunkline_store.sqlite.appender import SqliteAppender
from trunkline_store.sqlite.checkpoint import RESET_BYTES, Checkpointer
from trunkline_store.sqlite.connect import PAGE_BYTES, connect_writer, make_private
from trunkline_store.sqlite.errors import translate
from trunkline_store.sqlite.lock import FileLock
from trunkline_store.sqlite.readers import Readers
from trunkline_store.sqlite.schema import prepare_schema
from trunkline_store.sqlite.statements import PARAMETERS_A_STATEMENT
from trunkline_store.sqlite.transaction import Transaction
from trunkline_store.sqlite.writer import Writer

T = TypeVar("T")
CALLS_THAT_WAIT = 4096


class SqliteDatabase(Database):
    """A database in a file; see Database for what its methods promise."""

    engine: ClassVar[str] = "sqlite"
    features: ClassVar[Features] = Features(
        numbers_in_order=True,  # one writer, and AUTOINCREMENT never gives a number again
        shared=False,  # the file's lock
        shared_time=False,  # one process has one clock
        deletes_expired=False,
        recursive_queries=True,
    )

    def __init__(
        self,
        path: Path,
        lock: FileLock,
        raw: sqlite3.Connection,
        *,
        readers: int,
        clock: Clock,
        page_bytes: int = PAGE_BYTES,
        log_bytes: int = RESET_BYTES,
    ) -> None:
        """Take the file's lock and the connection that writes, whose schema is up to date; `start` does the rest."""
        self.path = path
        self.clock = clock
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._dialect = sqlite_dialect.dialect(paramstyle="qmark")
        self._parameters = min(raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER), PARAMETERS_A_STATEMENT)
        self._tx = Transaction(raw)
        self._writer = Writer(self._tx, self._loop, max_calls=CALLS_THAT_WAIT)
        self._readers = Readers(path, readers, max_waiting=CALLS_THAT_WAIT, page_bytes=page_bytes)
        self._checkpointer = Checkpointer(
            path, raw, lambda: self._writer.commits, self._writer.between_turns, log_bytes
        )
        self._appenders: dict[str, SqliteAppender] = {}
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open_url(
        cls,
        url: URL,
        metadata: sa.MetaData,
        *,
        migrations: str | None,
        readers: int,
        clock: Clock,
        page_bytes: int = PAGE_BYTES,
        log_bytes: int = RESET_BYTES,
    ) -> SqliteDatabase:
        """Lock, open, bring the schema up to date, start the threads; a log of `log_bytes` is reset."""
        path = _file_of(url)
        lock, raw = await asyncio.to_thread(_open, path, metadata, migrations, page_bytes)
        database = cls(
            path, lock, raw, readers=readers, clock=clock, page_bytes=page_bytes, log_bytes=log_bytes
        )
        database.start()
        return database

    def start(self) -> None:
        """Start the threads: from here on it answers."""
        self._writer.start()
        self._checkpointer.start()

    async def read(self, fn: Callable[[Connection], T], *, staleness: timedelta | None = None) -> T:
        """Run a callback over a snapshot; always the latest here."""
        return await self._readers.call(fn)

    async def scan(self, fn: Callable[[Connection], T], *, staleness: timedelta | None = None) -> T:
        """Run a callback over a snapshot, on one of the threads that only scan."""
        return await self._readers.call(fn, scan=True)

    async def peek(self, fn: Callable[[Connection], T]) -> T:
        """Run a short callback over a snapshot, here and now."""
        return self._readers.call_here(fn)

    async def write(self, fn: Callable[[Connection], T], *, background: bool = False) -> T:
        """Run a callback in the writer's transaction."""
        value: T = await self._writer.submit(fn, background=background)
        return value

    @property
    def pressure(self) -> Pressure:
        """What the writer saw of its foreground."""
        return self._writer.pressure

    def appender(self, table: sa.Table, *, max_rows: int = 4096, max_bytes: int = 64 << 20) -> Appender:
        """Return the append path into a table."""
        appender = self._appenders.get(table.name)
        if appender is None:
            appender = self._appenders[table.name] = SqliteAppender(
                table,
                self._dialect,
                self._loop,
                self._writer,
                parameters_a_statement=self._parameters,
                max_rows=max_rows,
                max_bytes=max_bytes,
            )
            self._writer.appenders.append(appender)
        return appender

    async def check(self) -> None:
        """Return if both a read and the writer answer."""
        self._writer.check_open()
        await self.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one())

    async def close(self) -> None:
        """Finish what is queued, fold the log into the file, free the lock."""
        if self._closing is None:
            self._writer.refuse()
            self._readers.refuse()
            self._closing = asyncio.create_task(asyncio.to_thread(self._close))
        await asyncio.shield(self._closing)

    def _close(self) -> None:
        try:
            self._checkpointer.stop()
            self._writer.stop()
            self._readers.stop()
            self._tx.close()
        finally:
            self._lock.release()


def _file_of(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise StoreUnsupported("a store in memory keeps no promise: give a file, sqlite:///path")
    if url.query or url.host:
        raise StoreUnsupported(f"{url}: only sqlite:///path is understood")
    return Path(url.database).absolute()


def _open(
    path: Path, metadata: sa.MetaData, migrations: str | None, page_bytes: int
) -> tuple[FileLock, sqlite3.Connection]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreUnavailable(f"cannot create {path.parent}: {exc.strerror}") from exc
    lock = FileLock(path)
    try:
        make_private(path)
        raw = connect_writer(path, page_bytes=page_bytes)
        try:
            prepare_schema(raw, metadata, migrations)
        except BaseException:
            raw.close()
            raise
    except BaseException as exc:
        lock.release()
        error = _unavailable(path, exc) if isinstance(exc, OSError) else translate(exc)
        if error is exc:
            raise
        raise error from exc
    return lock, raw


def _unavailable(path: Path, exc: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"cannot open {path}: {exc.strerror or exc}")


open_url = SqliteDatabase.open_url
