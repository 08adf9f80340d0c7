"""Callbacks on worker threads, each with a session of its own, run again until they commit or time is up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

from trunkline_store.callbacks import forbid_transaction_control, translate_errors
from trunkline_store.errors import StoreBusy, StoreClosed, StoreUnavailable
from trunkline_store.spanner import driver
from trunkline_store.spanner.client import Client
from trunkline_store.spanner.deadline import Deadline
from trunkline_store.spanner.dialect import engine_over
from trunkline_store.spanner.errors import TransactionLost, translate, worth_repeating

T = TypeVar("T")


class Sessions:
    """Sessions made ahead of need; a thread takes one and keeps it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._ready: list[str] = []
        self._all: set[str] = set()

    def warm(self, count: int, deadline: Deadline) -> None:
        """Create that many, and ask one of them a question, so that nobody waits for the first."""
        made = self._client.create_sessions(count, deadline)
        with self._lock:
            self._ready += made
            self._all.update(made)

    def take(self, deadline: Deadline) -> str:
        """Return a session for the caller alone."""
        with self._lock:
            if self._ready:
                return self._ready.pop()
        [made] = self._client.create_sessions(1, deadline)
        with self._lock:
            self._all.add(made)
        return made

    def give(self, session: str) -> None:
        """Take a session back for the next one who asks."""
        with self._lock:
            self._ready.append(session)

    def replace(self, lost: str, deadline: Deadline) -> str:
        """Return another session for one that Spanner forgot (idle for an hour, or 28 days old)."""
        with self._lock:
            self._all.discard(lost)
        return self.take(deadline)

    def close(self) -> None:
        """Give all back, as far as Spanner listens: the rest it forgets by itself."""
        deadline = self._client.deadline(2.0)
        with self._lock:
            names, self._ready, self._all = sorted(self._all), [], set()
        for name in names:
            try:
                self._client.delete_session(name, deadline)
            except StoreUnavailable:
                return


class Threads:
    """Threads that run callbacks, either to read or to write."""

    def __init__(
        self,
        client: Client,
        sessions: Sessions,
        mode: driver.Mode,
        count: int,
        *,
        seconds: float,
        max_waiting: int,
    ) -> None:
        self._client = client
        self._sessions = sessions
        self._mode = mode
        self._seconds = seconds
        self._max_waiting = max_waiting
        self._here = threading.local()
        self._engine = engine_over(self._connect)  # one, so that all share compiled statements
        translate_errors(self._engine, translate)
        forbid_transaction_control(self._engine, lambda: getattr(self._here, "inside", False))
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"spanner-{mode}")
        self._count = threading.Lock()
        self._waiting = 0
        self._closed = False
        self.repeated = 0
        """Runs that had to be done again."""

    def check_open(self) -> None:
        """Raise if no further work is taken."""
        if self._closed:
            raise StoreClosed("the database is closed")

    async def call(self, fn: Callable[[Connection], T], staleness: timedelta | None = None) -> T:
        """Run a callback on one of the threads."""
        self.check_open()
        if self._waiting >= self._max_waiting:
            raise StoreBusy(f"{self._waiting} callbacks wait for a thread")
        with self._count:
            self._waiting += 1
        future = self._pool.submit(self._run, fn, staleness)
        future.add_done_callback(self._forget_cancelled)
        return await asyncio.wrap_future(future)

    def refuse(self) -> None:
        """Take no more callbacks."""
        self._closed = True

    def stop(self) -> None:
        """Finish what was taken; blocks until then."""
        self._pool.shutdown(wait=True)
        self._engine.dispose()

    def _forget_cancelled(self, future: Any) -> None:
        if future.cancelled():
            self._began()

    def _began(self) -> None:
        with self._count:
            self._waiting -= 1

    def _run(self, fn: Callable[[Connection], T], staleness: timedelta | None) -> T:
        self._began()
        deadline = self._client.deadline(self._seconds)
        attempt = 0
        while True:
            try:
                return self._once(fn, staleness, deadline)
            except StoreUnavailable as exc:
                if not worth_repeating(exc) or self._raw(deadline).lost is None:
                    raise  # not the transaction's end: a refusal of the callback's own, or time is up
                if isinstance(exc, TransactionLost) and exc.session_lost:
                    raw = self._raw(deadline)
                    raw.session = self._sessions.replace(raw.session, deadline)
                deadline.pause(attempt, exc.delay if isinstance(exc, TransactionLost) else None)
                attempt += 1
                with self._count:
                    self.repeated += 1

    def _once(self, fn: Callable[[Connection], T], staleness: timedelta | None, deadline: Deadline) -> T:
        raw = self._raw(deadline)
        core = self._core()
        raw.start(self._mode, deadline, staleness)
        core.begin()
        self._here.inside = True
        try:
            try:
                value = fn(core)
            except StopIteration:  # a future refuses it
                raise RuntimeError("the callback raised StopIteration") from None
            except Exception as exc:
                if raw.lost is not None:  # whatever it made of that: it did not run to its end
                    raise raw.lost from exc
                error = translate(exc)
                if error is exc:
                    raise
                raise error from exc
            try:
                raw.finish()
            except StoreUnavailable as exc:
                raw.lost = exc
                raise
            return value
        finally:
            self._here.inside = False
            raw.abandon()
            if not core.closed:
                core.rollback()

    def _raw(self, deadline: Deadline) -> driver.Connection:
        raw: driver.Connection | None = getattr(self._here, "raw", None)
        if raw is None:
            raw = self._here.raw = driver.Connection(self._client, self._sessions.take(deadline))
        return raw

    def _core(self) -> Connection:
        core: Connection | None = getattr(self._here, "core", None)
        if core is None or core.closed:
            core = self._here.core = self._engine.connect()
        return core

    def _connect(self) -> driver.Connection:
        raw: driver.Connection = self._here.raw
        return raw
