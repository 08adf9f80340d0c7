"""Reads: a pool of threads, each with a read-only connection, each read in a snapshot of its own."""

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
from trunkline_store.errors import StoreClosed
from trunkline_store.sqlite.connect import connect_reader, engine_over
from trunkline_store.sqlite.errors import translate

T = TypeVar("T")


class Readers:
    """Up to `count` reads at once; further ones wait their turn."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._here = threading.local()
        self._opened: list[tuple[Connection, sqlite3.Connection]] = []
        self._engine = engine_over(self._connect)  # one, so that all share compiled statements
        forbid_transaction_control(self._engine, lambda: getattr(self._here, "inside", False))
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="store-reader")
        self._closed = False

    async def call(self, fn: Callable[[Connection], T]) -> T:
        """Run a callback on a reader's thread."""
        if self._closed:
            raise StoreClosed("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, fn)

    def call_here(self, fn: Callable[[Connection], T]) -> T:
        """Run a callback on the caller's thread, over a connection of its own."""
        if self._closed:
            raise StoreClosed("the database is closed")
        return self._read(fn)

    def refuse(self) -> None:
        """Take no more reads."""
        self._closed = True

    def stop(self) -> None:
        """Finish the reads that were taken, then close; blocks until then."""
        self._pool.shutdown(wait=True)
        for core, raw in self._opened:
            core.close()
            raw.close()
        self._engine.dispose()

    def _read(self, fn: Callable[[Connection], T]) -> T:
        try:
            core, raw = self._connection()
            raw.execute("BEGIN")
            core.begin()
            self._here.inside = True
            try:
                return fn(core)
            finally:
                self._here.inside = False
                core.rollback()
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
        self._here.raw = raw = connect_reader(self._path)
        return raw
