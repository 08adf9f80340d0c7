"""The one thread that writes: drains what callers wait for, and beside it one background lane, into group commits.

A turn is one transaction: callbacks of the foreground for a bounded time, then work of the background lane where it is
due, then every row that waits to be appended (those that came meanwhile too), then one fsynced commit, then one call
to the event loop that resolves all of them. While the foreground crowds, the background lane gets BACKGROUND_WEIGHT
of the writer's time; while it does not, the lane takes whatever the foreground leaves. The foreground crowds when
commits carry many rows and there is no processor time to spare. Many rows alone are also what a slow disk and a steady
stream make: then the background's work is done beside the foreground's, in the same commits, and has none of its own.
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

from trunkline_store.database import Pressure
from trunkline_store.errors import StoreBusy, StoreClosed, StoreError, StoreUnavailable
from trunkline_store.sqlite.appender import SqliteAppender
from trunkline_store.sqlite.demand import demand_of
from trunkline_store.sqlite.transaction import GroupLost, Transaction
from trunkline_store.sqlite.units import InsertBatch, WriteCall

CALLS_A_TURN = 256
# How long callbacks of one lane go on in a turn before the rows that wait are appended.
LANE_SECONDS = 0.004
BACKGROUND_WEIGHT = 1 / 24
# Rows and callbacks to a commit, smoothed over the last few, from which on the foreground crowds.
CROWD = 8
# The part of one processor that this thread and the event loop's ask for, from which on none is to spare: they share an
# interpreter.
BUSY = 0.8
_MEASURED_SECONDS = 0.05
# Without a commit for so long nobody is crowding any more, and for so long nobody is about to come.
CROWD_SECONDS = 0.05
QUIET_SECONDS = 1.0

Unit = WriteCall | InsertBatch
Task = WriteCall | SqliteAppender
"""Work of the background lane: a callback, or rows that an appender holds for it."""


class Writer:
    """Owns the writing connection and its thread; submit() is called on the event loop."""

    def __init__(
        self,
        tx: Transaction,
        loop: asyncio.AbstractEventLoop,
        *,
        max_calls: int,
        clock: Callable[[], float] = time.monotonic,
        demand: Callable[[], float] | None = None,
    ) -> None:
        """`clock` returns seconds that only grow, `demand` the processor's seconds that were asked for (demand.py)."""
        self._tx = tx
        self._loop = loop
        self._max_calls = max_calls
        self._clock = clock
        self._foreground: deque[WriteCall] = deque()
        self._background: deque[Task] = deque()
        self._between: deque[Callable[[], None]] = deque()
        self.appenders: list[SqliteAppender] = []
        self._idle = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._under_way: list[Unit] = []
        self._closing = False
        self._broken: BaseException | None = None
        self._background_from = 0.0
        self._crowd = 0.0
        self._last_foreground = clock() - QUIET_SECONDS
        self._loops_thread = threading.get_native_id()
        self._demand = demand
        self._busy = 1.0
        self._measured = self._last_foreground, 0.0
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Callbacks that wait."""
        return len(self._foreground) + len(self._background)

    @property
    def pressure(self) -> Pressure:
        """See Database. What waits at one moment says little: whoever asks right after a commit sees nothing."""
        since = self._clock() - self._last_foreground
        if self._busy >= BUSY and self._many(since):
            return Pressure.CROWD
        return Pressure.SOME if since < QUIET_SECONDS else Pressure.NONE

    def submit(self, fn: Callable[[Connection], Any], *, background: bool = False) -> asyncio.Future[Any]:
        """Queue a callback."""
        self.check_open()
        lane: deque[Any] = self._background if background else self._foreground
        if len(lane) >= self._max_calls:
            raise StoreBusy(f"{len(lane)} transactions wait for the writer")
        future = self._loop.create_future()
        lane.append(WriteCall(fn, future))
        self.wake()
        return future

    def later(self, appender: SqliteAppender) -> None:
        """Have an appender's background rows taken when it is their turn; once for all that it holds then."""
        self._background.append(appender)
        self.wake()

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
        if self._foreground or self._between or any(self.appenders):
            return True
        return bool(self._background) and self._background_due(self._clock(), False)

    def _many(self, since: float) -> bool:
        """Say whether commits carry many rows, the last of them so many seconds ago."""
        return self._crowd > CROWD and since < CROWD_SECONDS

    def _background_due(self, now: float, beside: bool) -> bool:
        """Say whether the background lane has its turn, in a commit of the foreground or in one of its own."""
        if self._closing or not self._many(now - self._last_foreground):
            return True
        return now >= self._background_from if self._busy >= BUSY else beside

    def _sleep(self) -> None:
        # The order matters: idle is shown first and the queues looked at after, so that whoever queues
        # in between either is seen here or sees idle and leaves a token.
        self._idle = True
        if self._has_work() or self._closing:
            self._idle = False
            return
        timeout = None
        if self._background:
            timeout = CROWD_SECONDS
            if self._busy >= BUSY:
                timeout = max(0.0, min(self._background_from - self._clock(), CROWD_SECONDS))
        with contextlib.suppress(queue.Empty):
            self._tokens.get(timeout=timeout)
        self._idle = False

    def _turn(self) -> None:
        units = self._under_way = []
        try:
            self._run_calls(units)
            called = len(units)
            began = self._clock()
            if self._background and self._background_due(began, bool(called) or any(self.appenders)):
                self._run_background(units, began)
                if self.pressure is Pressure.CROWD:
                    ended = self._clock()
                    self._background_from = ended + (ended - began) * (1 / BACKGROUND_WEIGHT - 1)
            served = called + self._run_appends(units)
            self._tx.commit()
        except (GroupLost, StoreError):
            self._one_by_one(units)
            served = 0
        self.commits += 1
        if served:  # before anybody is told, who may ask
            self._crowd += (served - self._crowd) / 8
            self._last_foreground = self._clock()
            self._measure(self._last_foreground)
        if units:
            self._settle(units)

    def _measure(self, now: float) -> None:
        """See how much of a processor was asked for since the last look, unless that was long ago."""
        at, before = self._measured
        if now - at < _MEASURED_SECONDS:
            return
        if self._demand is None:
            self._demand = demand_of(self._loops_thread, threading.get_native_id())
        self._measured = now, self._demand()
        if now - at < QUIET_SECONDS:
            self._busy += ((self._measured[1] - before) / (now - at) - self._busy) / 2

    def _run_calls(self, units: list[Unit]) -> None:
        """Run callbacks of the foreground until their time is up."""
        if not self._foreground:
            return
        until = self._clock() + LANE_SECONDS
        while self._foreground and len(units) < CALLS_A_TURN:
            self._run_call(self._foreground.popleft(), units)
            if self._clock() >= until:
                break

    def _run_background(self, units: list[Unit], began: float) -> None:
        """Run work of the background lane, in the order in which it came, until its time is up; one at least."""
        for _ in range(min(len(self._background), CALLS_A_TURN)):
            task = self._background.popleft()
            if isinstance(task, WriteCall):
                self._run_call(task, units)
            elif batch := task.take_background():
                units.append(batch)
                self._tx.begin()
                batch.apply(self._tx)
            if self._clock() >= began + LANE_SECONDS:
                break

    def _run_appends(self, units: list[Unit]) -> int:
        """Append the rows that wait; how many."""
        batches = [batch for appender in self.appenders if (batch := appender.take())]
        alone = len(batches) == 1
        units.extend(batches)
        for batch in batches:
            if not alone or not batch.single:
                self._tx.begin()
            batch.apply(self._tx)
        return sum(len(batch.entries) for batch in batches)

    def _run_call(self, call: WriteCall, units: list[Unit]) -> None:
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
        calls = [task for task in self._background if isinstance(task, WriteCall)]
        units: list[Unit] = [*self._under_way, *self._foreground, *calls]
        self._foreground.clear()
        self._background.clear()
        for appender in self.appenders:
            while (batch := appender.take() or appender.take_background()) is not None:
                units.append(batch)
        for unit in units:
            unit.fail(error)
        _settle_all(units)


def _settle_all(units: list[Unit]) -> None:
    for unit in units:
        unit.settle()
