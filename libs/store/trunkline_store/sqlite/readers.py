"""Reads: two pools of threads, each thread with a read-only connection, each read in a snapshot of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy.engine import Connection

from trunkline_store.callbacks import forbid_transaction_control
from trunkline_store.errors import StoreBusy, StoreClosed
from trunkline_store.sqlite.connect import PAGE_BYTES, connect_reader, engine_over
from trunkline_store.sqlite.errors import translate

T = TypeVar("T")
# SQLite's instructions, some 10 ms of them, between two looks at whether somebody still waits for a read. A look
# needs Python's lock: for more of them a scan would stand still while the event loop is busy.
_LOOK_INSTRUCTIONS = 500_000


class Readers:
    """Up to `count` reads at once, and as many scans; of each, up to `max_waiting` further ones wait their turn."""

    def __init__(self, path: Path, count: int, *, max_waiting: int, page_bytes: int = PAGE_BYTES) -> None:
        self._path = path
        self._page_bytes = page_bytes
        self._here = threading.local()
        self._opened: list[tuple[Connection, sqlite3.Connection]] = []
        self._engine = engine_over(self._connect)  # one, so that all share compiled statements
        forbid_transaction_control(self._engine, lambda: getattr(self._here, "inside", False))
        self._reads = _Lane("store-reader", count, max_waiting)
        self._scans = _Lane("store-scanner", count, max_waiting)
        self._closed = False

    async def call(self, fn: Callable[[Connection], T], *, scan: bool = False) -> T:
        """Run a callback on a reader's thread; when the awaiter is cancelled, it leaves the queue or is stopped."""
        self._check_open()
        lane, unwanted = self._scans if scan else self._reads, threading.Event()
        lane.enter()
        try:
            return await asyncio.get_running_loop().run_in_executor(lane.pool, self._read, fn, unwanted)
        finally:
            unwanted.set()
            lane.asked -= 1

    def call_here(self, fn: Callable[[Connection], T]) -> T:
        """Run a callback on the caller's thread, over a connection of its own."""
        self._check_open()
        return self._read(fn, None)

    def refuse(self) -> None:
        """Take no more reads."""
        self._closed = True

    def stop(self) -> None:
        """Finish the reads that were taken, then close; blocks until then."""
        for lane in (self._reads, self._scans):
            lane.pool.shutdown(wait=True)
        for core, raw in self._opened:
            core.close()
            raw.close()
        self._engine.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the database is closed")

    def _read(self, fn: Callable[[Connection], T], unwanted: threading.Event | None) -> T:
        try:
            core, raw = self._connection()
            self._here.unwanted = unwanted
            raw.execute("BEGIN")
            if not core.in_transaction():  # as the writer's, it stays so
                core.begin()
            self._here.inside = True
            try:
                return fn(core)
            finally:
                self._here.inside = False
                self._here.unwanted = None  # the end of the snapshot is not to be stopped
                if raw.in_transaction:
                    raw.rollback()
        except StopIteration:
            raise RuntimeError("the callback raised StopIteration") from None
        except Exception as exc:
            error = translate(exc)
            if error is exc:
                raise
            raise error from exc

    def _connection(self) -> tuple[Connection, sqlite3.Connection]:
        core: Connection | None = getattr(self._here, "core", None)
        if core is None or core.closed:
            core = self._here.core = self._engine.connect()
            self._opened.append((core, self._here.raw))
        return core, self._here.raw

    def _connect(self) -> sqlite3.Connection:
        self._here.raw = raw = connect_reader(self._path, page_bytes=self._page_bytes)
        # Not Connection.interrupt: it might hit the next read on this connection.
        raw.set_progress_handler(self._is_unwanted, _LOOK_INSTRUCTIONS)
        return raw

    def _is_unwanted(self) -> bool:
        """Say, on a reader's thread, whether its read is to stop."""
        unwanted: threading.Event | None = getattr(self._here, "unwanted", None)
        return unwanted is not None and unwanted.is_set()


class _Lane:
    """Threads with a queue of their own. `asked` is how many callers wait for them, those in work included."""

    def __init__(self, name: str, count: int, max_waiting: int) -> None:
        self.pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self.asked = 0
        self._most = count + max_waiting

    def enter(self) -> None:
        """Count one more. Raises StoreBusy."""
        if self.asked >= self._most:
            raise StoreBusy(f"{self.asked} reads wait for a thread")
        self.asked += 1
