"""The store's face: open by URL, read, write, append, close; the docstrings are the engines' contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from enum import IntEnum
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.appender import Appender
from trunkline_store.clock import Clock, SystemClock
from trunkline_store.engines import module_of
from trunkline_store.features import Features

T = TypeVar("T")


class Pressure(IntEnum):
    """How much those press who wait for a store's writer; whoever works in the background sizes its work by it."""

    NONE = 0
    """Nobody has for a second."""
    SOME = 1
    CROWD = 2
    """Each commit carries many: the background has its share, and is to hold the writer for a few milliseconds."""


class Database(ABC):
    """One service's store. Open it on the event loop that will use it; close it when done.

    Callbacks are synchronous functions over a SQLAlchemy Core Connection. They may be run more than once
    (engines retry), in another thread: a callback keeps no state outside itself and neither commits nor rolls
    back; it raises to undo its work.
    """

    engine: ClassVar[str]
    """The engine's name, for messages; what it does differently is told by `features`."""
    features: ClassVar[Features]
    clock: Clock

    @staticmethod
    async def open(
        url: str,
        metadata: sa.MetaData,
        *,
        migrations: str | None = None,
        readers: int = 4,
        clock: Clock | None = None,
        page_bytes: int = 32 << 20,
    ) -> Database:
        """Open `sqlite:///path` (created if missing) or `spanner+spanner:///projects/..`.

        `migrations` names the package that holds `versions/` ("trunkline_tenant.migrations"); SQLite is
        brought to its head under the lock; Spanner must be there already (`python -m trunkline_store.migrate`).
        None: the metadata's missing tables are created, for tests and scratch files. `page_bytes` is the most memory
        for pages of the file that SQLite's writer keeps; each reader keeps a quarter of it. Settings of Spanner's
        pools stand in the URL's query: docs/engines.md. Raises StoreLocked (open elsewhere), SchemaMismatch
        (written by a newer version; on Spanner any other revision), StoreDamaged, StoreUnavailable,
        StoreUnsupported.
        """
        parsed = sa.make_url(url)
        engine = module_of(parsed.drivername, "engine")
        database: Database = await engine.open_url(
            parsed,
            metadata,
            migrations=migrations,
            readers=readers,
            clock=clock or SystemClock(),
            page_bytes=page_bytes,
        )
        return database

    @abstractmethod
    async def read(self, fn: Callable[[Connection], T], *, staleness: timedelta | None = None) -> T:
        """Run a callback over one consistent snapshot and return what it returns.

        `staleness` allows an engine to serve a snapshot that old (Spanner); None reads the latest. If the awaiter is
        cancelled, a read that waits is dropped, and one that runs is stopped where the engine can. Raises StoreBusy
        (queue full), StoreUnavailable, StoreClosed.
        """

    async def scan(self, fn: Callable[[Connection], T], *, staleness: timedelta | None = None) -> T:
        """Do as `read` does, for a callback that may look at many rows: lists with a filter, counts, sums.

        However many scans run and wait, no `read` waits for them.
        """
        return await self.read(fn, staleness=staleness)

    async def peek(self, fn: Callable[[Connection], T]) -> T:
        """Do as `read` does, for a callback that looks at a few rows by their keys.

        Where the data lies within this process's reach the callback runs at once on the event loop, which it holds
        for some 50 microseconds: a trip to a thread and back takes several times as long. What scans is for `read`.
        """
        return await self.read(fn)

    @abstractmethod
    async def write(self, fn: Callable[[Connection], T], *, background: bool = False) -> T:
        """Run a callback in a transaction and return what it returned, after the commit.

        Work that nobody waits for is done in the `background`: where all share one writer, it gets a fixed share of
        the writer's time while others crowd, and otherwise what they leave, in the order in which it came.
        What it raises comes back, and its work alone is undone. Raises StoreBusy (queue full, nothing done),
        Conflict, InvalidValue, StoreUnavailable, StoreClosed. If the awaiter is cancelled, the work may be
        committed all the same.
        """

    @property
    def pressure(self) -> Pressure:
        """How much those press whom work in the background could delay: some, where there is no one writer."""
        return Pressure.SOME

    @abstractmethod
    def appender(self, table: sa.Table, *, max_rows: int = 4096, max_bytes: int = 64 << 20) -> Appender:
        """Return the append path into a table: one a table, made at the first call with its bounds."""

    @abstractmethod
    async def check(self) -> None:
        """Return if the store answers, for health; raise StoreUnavailable if not."""

    def hurry(self) -> None:  # noqa: B027 - where the data lies within the process nothing is far away
        """Say that the process is about to stop: from now on nobody waits long for a store that says nothing.

        Once it has been silent for some seconds, what waits for it, and what comes later, is StoreUnavailable.
        """

    @abstractmethod
    async def close(self) -> None:
        """Take no more work, finish what was taken unless the store is silent, let go. Again is harmless."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
