"""Cloud Spanner as an engine: any number of processes over one database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import ClassVar, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from trunkline_store.appender import Appender
from trunkline_store.clock import Clock
from trunkline_store.database import Database
from trunkline_store.features import Features
from trunkline_store.spanner.address import Address, parse_address
from trunkline_store.spanner.appender import SpannerAppender, WireForm
from trunkline_store.spanner.client import Client
from trunkline_store.spanner.dialect import StoreSpannerDialect
from trunkline_store.spanner.schema import check_revision, create_missing
from trunkline_store.spanner.threads import Sessions, Threads

T = TypeVar("T")
CALLS_THAT_WAIT = 4096
OPEN_SECONDS = 8.0
# While a process stops: after this long without any answer nobody waits for Spanner any more.
SILENCE_SECONDS = 3.0
_LOOK_SECONDS = 0.05


class SpannerDatabase(Database):
    """A database on Spanner; see Database for what its methods promise."""

    engine: ClassVar[str] = "spanner"
    features: ClassVar[Features] = Features(
        numbers_in_order=False,  # random keys: a growing one would be written by one server alone
        shared=True,
        shared_time=True,  # CURRENT_TIMESTAMP, and commit timestamps
        deletes_expired=True,  # ROW DELETION POLICY: within 72 hours
        recursive_queries=False,
    )

    def __init__(
        self,
        client: Client,
        sessions: Sessions,
        *,
        readers: int,
        clock: Clock,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.clock = clock
        self._silence_seconds = silence_seconds
        self.address: Address = client.address
        self._client = client
        self._sessions = sessions
        self._dialect = StoreSpannerDialect(paramstyle="format")
        seconds = self.address.deadline_seconds
        self._readers = Threads(
            client, sessions, "read", readers, seconds=seconds, max_waiting=CALLS_THAT_WAIT
        )
        self._scanners = Threads(
            client, sessions, "read", readers, seconds=seconds, max_waiting=CALLS_THAT_WAIT
        )
        self._writers = Threads(
            client, sessions, "write", self.address.writers, seconds=seconds, max_waiting=CALLS_THAT_WAIT
        )
        self._append_pool = ThreadPoolExecutor(self.address.appends, thread_name_prefix="spanner-append")
        self._appenders: dict[str, SpannerAppender] = {}
        self._opened = time.monotonic()
        self._closing: asyncio.Task[None] | None = None
        self._hurrying: asyncio.Task[None] | None = None

    @classmethod
    async def open_url(
        cls,
        url: URL,
        metadata: sa.MetaData,
        *,
        migrations: str | None,
        readers: int,
        clock: Clock,
        page_bytes: int = 0,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> SpannerDatabase:
        """Connect, warm the sessions, check the schema; nothing is migrated here, and no pages are kept.

        A Spanner that owes an answer for `silence_seconds` is given up by a process that stops.
        """
        address = parse_address(url)
        client = await asyncio.to_thread(Client, address)
        try:
            sessions = await asyncio.to_thread(_open, client, metadata, migrations, readers)
        except asyncio.CancelledError:
            client.cut()  # its thread would hold up the end of the process
            raise
        return cls(client, sessions, readers=readers, clock=clock, silence_seconds=silence_seconds)

    async def read(self, fn: Callable[[Connection], T], *, staleness: timedelta | None = None) -> T:
        """Run a callback over one snapshot, exactly that old if told, but no older than this object.

        Before it was opened, and checked, the schema may have been another.
        """
        return await self._readers.call(fn, self._reached(staleness))

    async def scan(self, fn: Callable[[Connection], T], *, staleness: timedelta | None = None) -> T:
        """Do as `read` does, on one of the threads that only scan."""
        return await self._scanners.call(fn, self._reached(staleness))

    def _reached(self, staleness: timedelta | None) -> timedelta | None:
        if staleness is None:
            return None
        return min(staleness, timedelta(seconds=time.monotonic() - self._opened))

    async def write(self, fn: Callable[[Connection], T], *, background: bool = False) -> T:
        """Run a callback in a read-write transaction of its own; there is no one writer to share."""
        return await self._writers.call(fn)

    def appender(self, table: sa.Table, *, max_rows: int = 4096, max_bytes: int = 64 << 20) -> Appender:
        """Return the append path into a table."""
        appender = self._appenders.get(table.name)
        if appender is None:
            appender = self._appenders[table.name] = SpannerAppender(
                WireForm(table, self._dialect),
                self._client,
                self._sessions,
                self._append_pool,
                self._writers.check_open,
                max_rows=max_rows,
                max_bytes=max_bytes,
            )
        return appender

    async def check(self) -> None:
        """Return if Spanner answers."""
        await self.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one())

    @property
    def repeated(self) -> int:
        """Write callbacks that were run again because their transaction was aborted."""
        return self._writers.repeated

    def hurry(self) -> None:
        """Begin to watch for silence; see Database."""
        if self._hurrying is None:
            self._hurrying = asyncio.create_task(self._cut_when_silent())

    async def close(self) -> None:
        """Finish what was taken, as far as Spanner answers, give the sessions back, close the channel."""
        if self._closing is None:
            self.hurry()
            self._writers.refuse()
            self._readers.refuse()
            self._scanners.refuse()
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for appender in self._appenders.values():
            await appender.drained()
        await asyncio.to_thread(self._stop)
        if self._hurrying is not None:
            self._hurrying.cancel()

    async def _cut_when_silent(self) -> None:
        while self._client.silent_for() < self._silence_seconds:  # noqa: ASYNC110 - silence is no event
            await asyncio.sleep(_LOOK_SECONDS)
        self._client.cut()

    def _stop(self) -> None:
        self._writers.stop()
        self._readers.stop()
        self._scanners.stop()
        self._append_pool.shutdown(wait=True)
        self._sessions.close()
        self._client.close()


def _open(client: Client, metadata: sa.MetaData, migrations: str | None, readers: int) -> Sessions:
    deadline = client.deadline(OPEN_SECONDS)
    sessions = Sessions(client)
    try:
        session = sessions.take(deadline)
        if migrations is None:
            create_missing(client, session, metadata, deadline)
        else:
            check_revision(client, session, migrations, deadline)
        sessions.give(session)
        sessions.warm(2 * readers + client.address.writers + client.address.appends - 1, deadline)
        return sessions
    except BaseException:
        sessions.close()  # a server that waits for its schema tries again and again
        client.close()
        raise


open_url = SpannerDatabase.open_url
