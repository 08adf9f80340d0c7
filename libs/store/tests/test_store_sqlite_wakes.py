"""The writer's thread sleeps when nothing waits: whoever queues at that moment is served all the same."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time

import pytest
from sqlalchemy.dialects import sqlite
from trunkline_store.errors import StoreUnavailable
from trunkline_store.sqlite import appender, writer
from trunkline_store.testing.conformance import ENTRIES

# Seconds of one run; STRESS_SECONDS makes it longer.
SECONDS = float(os.environ.get("STRESS_SECONDS", "1"))
LOST_AFTER_SECONDS = 5.0


class Nothing:
    """A transaction that writes nothing, so that the thread falls asleep as often as it can."""

    active = False

    def begin(self):
        self.active = True

    def execute(self, sql, parameters=()):
        pass

    def call(self, fn):
        return fn(None)

    def commit(self):
        self.active = False

    rollback = commit


@pytest.fixture
def restless():
    """Have threads stop for a moment between any two lines of the writer and the appender, so that others run there."""
    files, rng = {writer.__file__, appender.__file__}, random.Random(1)

    def lines(frame, event, arg):
        if rng.random() < 0.05:
            time.sleep(rng.choice((0, 1e-5, 1e-4)))
        return lines

    threading.settrace(lambda frame, event, arg: lines if frame.f_code.co_filename in files else None)
    yield
    threading.settrace(None)


async def queue_at_odd_moments(seed, served):
    """Callbacks, rows, and tasks of another thread come one by one and in crowds; some awaiters give up."""
    rng, loop = random.Random(seed), asyncio.get_running_loop()
    thread = writer.Writer(Nothing(), loop, max_calls=1_000)
    rows = appender.SqliteAppender(
        ENTRIES, sqlite.dialect(), loop, thread, parameters_a_statement=999, max_rows=1_000, max_bytes=1 << 20
    )
    thread.appenders.append(rows)
    thread.start()
    ended = threading.Event()

    def between():  # as the thread does that folds the log
        while not ended.is_set():
            done = threading.Event()
            thread.between_turns(done.set)
            assert done.wait(LOST_AFTER_SECONDS)
            served["between"] += 1

    if seed:  # its tasks wake the thread too, and would hide that a row did not
        ended.set()
    beside = threading.Thread(target=between)
    beside.start()
    try:
        until = loop.time() + SECONDS
        while loop.time() < until:
            queued = [
                thread.submit(lambda conn: n)  # noqa: B023
                if rng.random() < 0.5
                else rows.append(("x", None, b""))
                for n in range(rng.choice((1, 1, 1, 2, 40)))
            ]
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            given_up = [future for future in queued if rng.random() < 0.1]
            for future in given_up:
                future.cancel()
            waited = [future for future in queued if not future.cancelled()]
            if waited:
                _, lost = await asyncio.wait(waited, timeout=LOST_AFTER_SECONDS)
                assert not lost, f"{len(lost)} of {len(waited)} were never served"
            served["queued"] += len(queued)
    finally:
        ended.set()
        beside.join()
        thread.refuse()
        await asyncio.to_thread(thread.stop)


def test_no_wake_up_of_the_writer_is_lost(restless):
    served = {"queued": 0, "between": 0}
    failed = []

    def run(seed):
        try:
            asyncio.run(queue_at_odd_moments(seed, served))
        except BaseException as error:
            failed.append(error)

    loops = [threading.Thread(target=run, args=(seed,)) for seed in range(3)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join()
    assert not failed, failed
    assert served["queued"] > 100


class Broken(Nothing):
    """A transaction with a fault that nobody foresaw."""

    def commit(self):
        raise ZeroDivisionError

    rollback = commit


async def test_whoever_waits_when_the_writer_stops_is_told():
    loop = asyncio.get_running_loop()
    thread = writer.Writer(Broken(), loop, max_calls=1_000)
    under_way = [thread.submit(lambda conn: time.sleep(0.05)) for _ in range(3)]
    thread.start()
    await asyncio.sleep(0.02)
    under_way.append(thread.submit(lambda conn: None))
    async with asyncio.timeout(LOST_AFTER_SECONDS):
        told = await asyncio.gather(*under_way, return_exceptions=True)
    assert [type(error) for error in told] == [StoreUnavailable] * 4
    with pytest.raises(StoreUnavailable):
        thread.submit(lambda conn: None)
