"""A process that stops does not wait for a Spanner that says nothing: on the real emulator, and on the line alone."""

import asyncio
import os
import threading
import time

import pytest
import sqlalchemy as sa
from trunkline_store import StoreUnavailable, SystemClock
from trunkline_store.testing.conformance import ENTRIES, METADATA, add, ids, refusal, thing

from tests.integration.spanner_emulator import require_emulator

SILENCE = 1.0  # long enough for a machine that is busy
SOON = 5.0
LONG = "?deadline_seconds=60"


@pytest.fixture
def own_emulator():
    """An emulator that a test may stop."""
    shared = require_emulator()
    from trunkline_store.spanner.emulator import Emulator

    emulator = Emulator()
    emulator.start()
    yield emulator
    emulator.stop()
    os.environ["SPANNER_EMULATOR_HOST"] = shared.address


async def impatient(url, readers=4):
    """Open a database that has a little patience with Spanner."""
    from trunkline_store.spanner.engine import open_url

    options = {"migrations": None, "readers": readers, "clock": SystemClock(), "silence_seconds": SILENCE}
    return await open_url(sa.make_url(url), METADATA, **options)


@pytest.fixture(params=["gone", "silent"])
def away(request, own_emulator):
    """What takes Spanner away."""
    return own_emulator.stop if request.param == "gone" else own_emulator.pause


def work(db):
    """Of each kind several, so that some wait for the others."""
    rows = [db.appender(ENTRIES).append((str(n), None, None)) for n in range(6)]
    calls = [f for n in range(6) for f in (db.read(ids), db.write(add(**thing(f"late-{n}"))))]
    return [*rows, *map(asyncio.ensure_future, calls)]


async def test_closing_gives_up_a_spanner_that_says_nothing(own_emulator, away):
    db = await impatient(own_emulator.create_database() + LONG, readers=2)
    await db.write(add(**thing("one")))
    away()
    waiting = work(db)
    await asyncio.sleep(0.05)  # some are on their way, some have not begun
    async with asyncio.timeout(SOON):
        await db.close()
        told = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) for error in told), told


async def test_closing_gives_up_what_the_kernel_still_holds(own_emulator):
    """A request larger than the socket's buffer outlives its deadline in gRPC, until the connection is reset."""
    db = await impatient(own_emulator.create_database() + LONG)
    own_emulator.pause()
    large = [db.appender(ENTRIES).append((str(n), None, bytes(9 << 20)), 9 << 20) for n in range(2)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(9.5):
        await db.close()
        told = await asyncio.gather(*large, return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) for error in told), told


async def test_who_waits_is_told_before_the_close_once_the_process_is_to_stop(own_emulator, away):
    async with await impatient(own_emulator.create_database() + LONG, readers=2) as db:
        away()
        waiting = work(db)
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in waiting)
        db.hurry()
        async with asyncio.timeout(SOON):
            told = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(error, StoreUnavailable) for error in told), told
            assert isinstance(await refusal(db.read(ids)), StoreUnavailable), "nobody asks it again"


async def test_a_spanner_that_answers_is_used_to_the_end(own_emulator):
    async with await impatient(own_emulator.create_database(), readers=2) as db:
        db.hurry()
        end = time.monotonic() + 1.5 * SILENCE
        while time.monotonic() < end:
            await db.write(add(**thing(f"{time.monotonic_ns()}")))
        await asyncio.sleep(1.2 * SILENCE)  # to say nothing when nothing was asked is no silence
        assert await db.read(ids)


async def test_an_opening_that_is_given_up_leaves_no_thread_behind(own_emulator):
    url = own_emulator.create_database()
    own_emulator.pause()
    before = set(threading.enumerate())
    opening = asyncio.create_task(impatient(url))
    async with asyncio.timeout(SOON):
        while not any("_open" in name for name in _running(before)):
            await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(SOON):
        await asyncio.get_running_loop().shutdown_default_executor()


def _running(before):
    """The functions that threads begun since then are in."""
    import sys

    frames = sys._current_frames()
    names = []
    for thread in set(threading.enumerate()) - before:
        frame = frames.get(thread.ident)
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
    return names


def test_silence_is_counted_from_the_oldest_question_that_no_answer_followed():
    from trunkline_store.spanner import deadline

    now = [100.0]
    line = deadline.Reachability(lambda: now[0])

    def after(seconds):
        now[0] += seconds
        return line.silent_for()

    assert after(5) == 0
    line.asked()
    assert after(2) == 2
    line.ended(answered=False)  # refused at once, and tried again: no answer either
    line.asked()
    assert after(1) == 3
    line.asked()
    line.ended(answered=True)
    assert after(4) == 4, "the first is still owed one"
    line.ended(answered=True)
    assert after(5) == 0


def test_a_pause_ends_when_the_line_is_cut():
    from trunkline_store.spanner.deadline import Deadline, Reachability
    from trunkline_store.spanner.errors import OutOfTime

    line = Reachability()
    threading.Timer(0.1, line.cut).start()
    began = time.monotonic()
    with pytest.raises(OutOfTime, match="is being closed"):
        Deadline(60.0, line).pause(0, asked=30.0)
    assert time.monotonic() - began < SOON
