"""Reads by key wait for no scan; what nobody waits for any more leaves the queue, or stops."""

import asyncio
import sqlite3
import threading
import time

import pytest
from trunkline_store import StoreBusy
from trunkline_store.sqlite.readers import Readers
from trunkline_store.testing.conformance import add, ids, thing

# Minutes of work in one statement.
_ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000000000) SELECT max(i) FROM n"
)


def endless(conn):
    return conn.exec_driver_sql(_ENDLESS).scalar_one()


async def cancelled(*tasks):
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_reads_and_health_wait_for_no_scan(db):
    await db.write(add(**thing("one")))
    scans = [asyncio.create_task(db.scan(endless)) for _ in range(40)]
    async with asyncio.timeout(20):
        for _ in range(20):
            assert await db.read(ids) == ["one"]
            await db.check()
    assert not any(scan.done() for scan in scans)
    await cancelled(*scans)


async def test_a_scan_that_is_cancelled_stops_and_one_that_waits_never_begins(db):
    began = []

    def work(conn):
        began.append(conn)
        return endless(conn)

    running = [asyncio.create_task(db.scan(work)) for _ in range(4)]
    while len(began) < 4:
        await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(db.scan(work)) for _ in range(4)]
    await asyncio.sleep(0.05)
    await cancelled(*waiting)
    await cancelled(*running)
    async with asyncio.timeout(20):  # all four threads are free again, or these would wait for minutes
        assert await asyncio.gather(*(db.scan(ids) for _ in range(8))) == [[]] * 8
    assert len(began) == 4


async def test_a_stop_never_hits_the_read_that_follows(db):
    """Whenever a scan is cancelled, also at its very end, the next ones on its connection answer."""
    for wait in range(60):
        gate = threading.Event()
        scan = asyncio.create_task(db.scan(lambda conn, gate=gate: (gate.wait(5), ids(conn))[1]))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(wait / 20_000, gate.set)
        await asyncio.sleep(wait / 20_000)
        scan.cancel()
        assert await asyncio.gather(*(db.scan(ids) for _ in range(4))) == [[]] * 4


async def test_the_queue_of_reads_has_a_bound(tmp_path):
    path = tmp_path / "store.db"
    sqlite3.connect(path).close()
    readers = Readers(path, 1, max_waiting=2)
    gate = threading.Event()
    taken = [asyncio.create_task(readers.call(lambda _: gate.wait(20))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await readers.call(lambda _: None)
    assert await readers.call(lambda _: "scanned", scan=True) == "scanned"
    gate.set()
    assert await asyncio.gather(*taken) == [True] * 3
    assert await readers.call(lambda _: "read") == "read"
    readers.stop()


async def test_closing_does_not_wait_for_a_scan_that_was_cancelled(db):
    scan = asyncio.create_task(db.scan(endless))
    await asyncio.sleep(0.1)
    await cancelled(scan)
    began = time.monotonic()
    await db.close()
    assert time.monotonic() - began < 10
