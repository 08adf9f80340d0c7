"""The one thread that writes: drains two lanes into group commits, fairly.

A turn is one transaction: callbacks of the normal lane first, for a bounded time, then every row that waits
to be appended (those that came meanwhile too), then one fsynced commit, then one call to the event loop that
resolves all of them. While rows are being appended, the normal lane rests after each turn for a third of
the time it took, so that appends keep at least a quarter of the writer; and each turn gives the normal lane
at least half of what the last batch took, so that appends cannot starve it either.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection

from trunkline_store.errors import StoreBusy, StoreClosed, StoreError, StoreUnavailable
from trunkline_store.sqlite.appender import SqliteAppender
from trunkline_store.sqlite.transaction import GroupLost, Transaction
from trunkline_store.sqlite.units import Batch, Call

CALLS_A_TURN = 256
NORMAL_SECONDS = 0.004
REST_AT_MOST = 0.1
# Appends count as going on for this long after the last one.
APPENDING_SECONDS = 0.05

Unit = Call | Batch


class Writer:
    """Owns the writing connection and its thread; submit() is called on the event loop."""

    def __init__(self, tx: Transaction, loop: asyncio.AbstractEventLoop, *, max_calls: int) -> None:
        self._tx = tx
        self._loop = loop
        self._max_calls = max_calls
        self._normal: deque[Call] = deque()
        self._first: deque[Call] = deque()
        self._between: deque[Callable[[], None]] = deque()
        self.appenders: list[SqliteAppender] = []
        self._idle = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._under_way: list[Unit] = []
        self._closing = False
        self._broken: BaseException | None = None
        self._normal_from = 0.0
        self._last_append = -1.0
        self._batch_seconds = 0.0
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Callbacks that wait."""
        return len(self._normal) + len(self._first)

    def submit(self, fn: Callable[[Connection], Any], lane: str) -> asyncio.Future[Any]:
        """Queue a callback."""
        self.check_open()
        lane_queue = self._first if lane == "append" else self._normal
        if len(lane_queue) >= self._max_calls:
            raise StoreBusy(f"{len(lane_queue)} transactions wait for the writer")
        future = self._loop.create_future()
        lane_queue.append(Call(fn, future))
        self.wake()
        return future

    def between_turns(self, task: Callable[[], None]) -> None:
        """Have the thread run a task while no transaction is open."""
        self._between.append(task)
        self.wake()

    def check_open(self) -> None:
        """Raise if no further work is taken."""
        if self._closing:
            raise StoreClosed("the database is closed")
        if self._broken is not None:
            raise StoreUnavailable("the writer has stopped") from self._broken

    def wake(self) -> None:
        """Wake the thread if it sleeps; cheap when it does not."""
        if self._idle:
            self._idle = False
            self._tokens.put(None)

    def refuse(self) -> None:
        """Take no more; on the event loop, so that nothing slips in after the thread has looked."""
        self._closing = True

    def stop(self) -> None:
        """Finish what is queued, end the thread; blocks until then. After refuse()."""
        self._tokens.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                if not self._has_work():
                    if self._closing:
                        return
                    self._sleep()
                    continue
                while self._between:
                    self._between.popleft()()
                self._turn()
        except BaseException as exc:  # nobody else would tell the awaiters
            self._broken = exc
            with contextlib.suppress(RuntimeError):  # as in _settle
                self._loop.call_soon_threadsafe(self._fail_all, exc)

    def _has_work(self) -> bool:
        if self._first or self._between or any(self.appenders):
            return True
        return bool(self._normal) and (self._closing or time.monotonic() >= self._normal_from)

    def _sleep(self) -> None:
        # The order matters: idle is shown first and the queues looked at after, so that whoever queues
        # in between either is seen here or sees idle and leaves a token.
        self._idle = True
        if self._has_work() or self._closing:
            self._idle = False
            return
        timeout = max(0.0, self._normal_from - time.monotonic()) if self._normal else None
        with contextlib.suppress(queue.Empty):
            self._tokens.get(timeout=timeout)
        self._idle = False

    def _turn(self) -> None:
        units = self._under_way = []
        started = time.monotonic()
        try:
            normal_ended = self._run_normal(units, started)
            appended = self._run_appends(units)
            self._tx.commit()
        except (GroupLost, StoreError):
            self._one_by_one(units)
            normal_ended, appended = time.monotonic(), False
        self.commits += 1
        if units:
            self._settle(units)
        now = time.monotonic()
        if appended:
            self._last_append = now
            self._batch_seconds = now - normal_ended
        self._rest(normal_ended - started, now)

    def _rest(self, normal_seconds: float, now: float) -> None:
        if now - self._last_append < APPENDING_SECONDS:
            self._normal_from = now + min(normal_seconds / 3, REST_AT_MOST)

    def _run_normal(self, units: list[Unit], started: float) -> float:
        """Run callbacks until their time is up; the moment they ended (`started` if none ran)."""
        now = started
        if not self._normal or (now < self._normal_from and not self._closing):
            return now
        until = started + max(NORMAL_SECONDS, self._batch_seconds / 2)
        while self._normal and len(units) < CALLS_A_TURN:
            self._run_call(self._normal.popleft(), units)
            now = time.monotonic()
            if now >= until:
                break
        return now

    def _run_appends(self, units: list[Unit]) -> bool:
        before = len(units)
        for _ in range(min(len(self._first), CALLS_A_TURN)):
            self._run_call(self._first.popleft(), units)
        batches = [batch for appender in self.appenders if (batch := appender.take())]
        units.extend(batches)
        for batch in batches:
            if len(batches) > 1 or not batch.single:
                self._tx.begin()
            batch.apply(self._tx)
        return len(units) > before

    def _run_call(self, call: Call, units: list[Unit]) -> None:
        if call.future.cancelled():
            return  # nobody waits and nothing was done
        units.append(call)
        call.apply(self._tx)

    def _one_by_one(self, units: list[Unit]) -> None:
        self._tx.rollback()
        for unit in units:
            unit.apply_alone(self._tx)

    def _settle(self, units: list[Unit]) -> None:
        # A loop that was closed has nobody waiting on it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle_all, units)

    def _fail_all(self, exc: BaseException) -> None:
        """Tell everybody who waits; on the event loop, so that nobody queues meanwhile."""
        error = StoreUnavailable(f"the writer has stopped: {exc}")
        units: list[Unit] = [*self._under_way, *self._normal, *self._first]
        self._normal.clear()
        self._first.clear()
        for appender in self.appenders:
            while (batch := appender.take()) is not None:
                units.append(batch)
        for unit in units:
            unit.fail(error)
        _settle_all(units)


def _settle_all(units: list[Unit]) -> None:
    for unit in units:
        unit.settle()
