"""A real store that can be made to fail, a real spool, and the inbox over both."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from trunkline_gateway import schema
from trunkline_gateway.intake.inbox import SpoolingInbox
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.intake.stored import Stored
from trunkline_gateway.receipts import VERIFIED, NewReceipt
from trunkline_runtime.process.pace import Pace
from trunkline_store import Database
from trunkline_store.errors import StoreBusy, StoreError, StoreUnavailable

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIRM_SECONDS = 0.5  # the spool gets four times that, which a slow disk may need


def receipt(number, body=b'{"id": 1}'):
    return NewReceipt(
        f"{number:032x}", "s-1", "acme", "post_call", NOW + timedelta(microseconds=number), VERIFIED,
        "application/json", "", b"x: 1", body,
    )  # fmt: skip


class Faulty:
    """The store's appender, with faults between it and whoever appends.

    `fault`: "" none; "fails" nothing is written; "hangs" nothing is written before `heal`; "silent" it is written,
    and nobody is told before `heal`; "breaks" it is written, and said to have failed; "full" the queue is full.
    """

    def __init__(self, inner):
        self.inner = inner
        self.fault = ""
        self.random = None
        """A random.Random: each append meets a fault of its own."""
        self.held = []  # (row, the caller's future)
        self.silent = []
        self.appended = 0
        self.tasks = set()

    @property
    def waiting(self):
        return self.inner.waiting + len(self.held) + len(self.silent)

    def append(self, row, size=0, *, background=False):
        self.appended += 1
        if self.random is not None:
            self.fault = self.random.choice(["", "", "", "fails", "hangs", "silent", "breaks"])
        if self.fault == "full":
            raise StoreBusy("full")
        told = asyncio.get_running_loop().create_future()
        if self.fault == "fails":
            told.set_exception(StoreUnavailable("disk full"))
        elif self.fault == "hangs":
            self.held.append((row, told))
        else:
            self._write(row, told, self.fault)
        return told

    def _write(self, row, told, fault):
        written = self.inner.append(row)  # at once: from here on it is on its way, and `waiting` says so

        async def write():
            try:
                await written
            except StoreError as error:
                told.set_exception(error)
                return
            if fault == "silent":
                self.silent.append((row, told))
            elif not told.done():
                if fault == "breaks":
                    told.set_exception(StoreUnavailable("I/O error"))
                else:
                    told.set_result(None)

        task = asyncio.create_task(write())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def heal(self):
        self.fault, self.random = "", None
        await self.tell()

    async def tell(self):
        """Let what was held or silent have its outcome, late."""
        await asyncio.gather(*self.tasks)  # what is being written silently is told of too
        held, self.held = self.held, []
        for row, told in held:
            self._write(row, told, "")
        silent, self.silent = self.silent, []
        for _, told in silent:
            if not told.done():
                told.set_result(None)
        await asyncio.gather(*self.tasks)


class World:
    def __init__(self, db, spool, confirm_seconds, pace):
        self.db, self.spool = db, spool
        self.store = Faulty(db.appender(schema.receipts))
        self.stored = Stored(db)
        self.admitted = 0
        self.inbox = SpoolingInbox(
            self.store, self.stored, spool, confirm_seconds=confirm_seconds, admit_soon=self._admit, pace=pace
        )

    def _admit(self):
        self.admitted += 1

    async def put(self, *numbers, body=b'{"id": 1}'):
        await asyncio.gather(*(self.inbox.append(receipt(n, body), len(body)) for n in numbers))

    async def receipts(self):
        """The numbers of the receipts that the store holds, sorted, with repetitions."""
        query = sa.select(schema.receipts.c.receipt_id)
        ids = await self.db.read(lambda conn: conn.execute(query).scalars().all())
        return sorted(int(i, 16) for i in ids)

    async def rows(self):
        columns = [c for c in schema.receipts.c if c.name not in ("seq", "pending")]
        query = sa.select(*columns).order_by(schema.receipts.c.receipt_id)
        return [tuple(row) for row in await self.db.read(lambda conn: conn.execute(query).all())]

    async def until(self, look, seconds=10.0):
        async with asyncio.timeout(seconds):
            while not (look() if not asyncio.iscoroutinefunction(look) else await look()):
                await asyncio.sleep(0.005)

    async def drained(self):
        await self.until(lambda: not self.spool.rows and not self.inbox.describe())


@asynccontextmanager
async def opened(
    folder,
    max_bytes=1 << 20,
    confirm_seconds=CONFIRM_SECONDS,
    running=True,
    spool_path=None,
    look_seconds=0.25,
):
    """Run until the end of the block; leaving it is a clean stop, but of a spool that holds what it holds."""
    async with await Database.open(f"sqlite:///{folder}/gateway.db", schema.metadata) as db:
        spool = Spool(spool_path or folder / "spool", max_bytes)
        world = World(db, spool, confirm_seconds, Pace(intervals={"inbox.look": look_seconds}))
        await world.inbox.open()
        loops = [asyncio.create_task(world.inbox.watch())]
        if running:
            loops.append(asyncio.create_task(world.inbox.recover()))
        try:
            yield world
        finally:
            for loop in loops:
                loop.cancel()
            for loop in loops:
                with suppress(asyncio.CancelledError):
                    await loop
            await spool.close()


async def spool_some(folder, numbers):
    """Leave receipts in the spool, as a gateway that was stopped in an outage does."""
    async with opened(folder, running=False) as world:
        world.store.fault = "fails"
        await world.put(*numbers)
        assert world.spool.rows == len(numbers)
