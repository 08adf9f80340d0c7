"""The spool: receipts that the store could not take, in an SQLite file of their own, bounded in bytes.

A file that is damaged is set aside, its good rows are saved into a new one, and the gateway goes on. A file that
cannot be opened at all is tried again; until then the gateway runs without a spool, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_store import Database
from trunkline_store.errors import SchemaMismatch, StoreDamaged, StoreError, StoreUnavailable

from trunkline_gateway.hooks.deadlines import NotConfirmed
from trunkline_gateway.intake.spool_rescue import Wreck, finished, set_aside, unfinished
from trunkline_gateway.intake.spool_rows import (
    SELECT,
    WEIGHT,
    Spooled,
    metadata,
    opened,
    sealed,
    spooled,
    weigh,
)

log = get_logger(__name__)
T = TypeVar("T")

ROWS = gauge("trunkline_spool_rows", "Receipts that wait in the spool for the store.")
BYTES = gauge("trunkline_spool_bytes", "Bytes of the receipts in the spool.")
DAMAGED = counter(
    "trunkline_spool_damaged_total",
    "Damaged files set aside, and the rows saved from them and seen to be lost in them.",
    ["what"],
)


class SpoolUnavailable(StoreUnavailable):
    """The spool can neither take nor give rows now."""

    reason = "SPOOL_UNAVAILABLE"


class SpoolFull(SpoolUnavailable):
    """The spool holds as many bytes as it may: nothing was written."""

    reason = "SPOOL_FULL"


class Spool:
    """The file. Made closed; `care` opens it, and is called now and then to keep it well."""

    def __init__(self, path: Path, max_bytes: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        """`max_bytes` bounds the rows' own bytes; the file is somewhat larger."""
        self._path = path
        self._max_bytes = max_bytes
        self._now = now
        self._db: Database | None = None
        self._trouble = "it is not open"
        self._damage = ""
        self._bytes = 0
        self._appends = 0
        self.rows = 0
        """Rows in it."""
        self.set_aside: list[Path] = []
        """Damaged files since the start, by their last names."""

    @property
    def trouble(self) -> str:
        """Why it takes no receipts now; empty when it does."""
        return self._trouble or ("it is full" if self._bytes >= self._max_bytes else "")

    def describe(self) -> list[str]:
        """Return lines for an operator; none when there is nothing to say."""
        lines = [f"spool: {self.rows} receipts, {self._bytes} bytes wait for the store"] if self.rows else []
        if self.trouble:
            lines.append(f"spool: takes no receipts: {self.trouble}")
        return lines + [f"spool: a damaged file was set aside: {path}" for path in self.set_aside]

    def append(self, values: tuple[Any, ...], floor: int) -> asyncio.Future[None]:
        """Commit one row of `receipts`. Raises, or the future does, SpoolUnavailable, StoreError."""
        weight = weigh(values)
        if self._bytes + weight > self._max_bytes:
            raise SpoolFull(f"the spool holds {self._bytes} bytes of {self._max_bytes}")
        future = self._opened().appender(spooled).append(sealed(values, floor), weight)
        self._appends += 1
        self._count(1, weight)  # before the commit: what is on its way counts too
        future.add_done_callback(lambda done: self._appended(done, weight))
        return future

    async def first(self, limit: int, skip: Collection[int]) -> list[Spooled]:
        """Return the oldest rows but those numbered in `skip`. Raises SpoolUnavailable, also for a damaged row."""
        settled = not skip and not self._opened().appender(spooled).waiting
        appends = self._appends
        passed = ", ".join(str(seq) for seq in skip)
        raw = await self._read(f"{SELECT} WHERE seq NOT IN ({passed}) ORDER BY seq LIMIT {limit:d}")
        rows = [row for row in map(opened, raw) if row is not None]
        if len(rows) < len(raw):
            self._damage = "a row's checksum is wrong"
            raise SpoolUnavailable(self._damage)
        if not raw and settled and appends == self._appends:
            self._count(-self.rows, -self._bytes)  # rows that were given up and not written after all
        return rows

    async def forget(self, rows: Sequence[Spooled]) -> None:
        """Delete rows that the store holds now. Raises SpoolUnavailable."""
        statement = spooled.delete().where(spooled.c.seq.in_([row.seq for row in rows]))
        await self._guarded(self._opened().write(lambda conn: conn.execute(statement).rowcount))
        self._count(-len(rows), -sum(weigh(row.values) for row in rows))

    async def floors(self) -> dict[str, int]:
        """Return the floor of every receipt in it, by the receipt's id. Raises SpoolUnavailable."""
        raw = await self._read("SELECT CAST(receipt_id AS BLOB), CAST(floor AS BLOB) FROM receipts")
        # A damaged row is found by its checksum when its turn comes.
        return {(row[0] or b"").decode("ascii", "replace"): _number(row[1]) for row in raw}

    async def care(self) -> bool:
        """Open the file, or set it aside and save its rows, where that is due.

        True when there may be rows that were not appended by this object. Raises StoreLocked when another gateway
        uses the file, which two must not share.
        """
        if self._db is not None and not self._damage:
            return False
        try:
            if not self._damage:
                await self._open()
            if self._damage:
                await self._replace()
                await self._open()
            for aside in await asyncio.to_thread(unfinished, self._path):
                await self._rescue(aside)
        except (StoreUnavailable, OSError) as error:
            if self._trouble != str(error):
                log.warning("spool_not_open", path=str(self._path), error=str(error))
            self._trouble = str(error)
        return self._db is not None

    async def close(self) -> None:
        """Close the file; what is in it waits for the next start."""
        db, self._db = self._db, None
        self._trouble = "it is closed"
        if db is not None:
            await db.close()

    async def _open(self) -> None:
        """Open the file; a damaged one is not opened, but said to be so."""
        try:
            db = await Database.open(f"sqlite:///{self._path}", metadata, readers=1)
        except StoreDamaged as error:
            self._damage = str(error)
            return
        query = f"SELECT count(*), coalesce(sum({WEIGHT}), 0) FROM receipts"  # noqa: S608 -- names of ours
        try:
            count, size = await self._guarded(db.read(lambda conn: conn.exec_driver_sql(query).one()))
        except StoreError:
            await _close(db)
            if not self._damage:
                raise
            return
        self._db, self._trouble, self._damage = db, "", ""
        self._count(count - self.rows, size - self._bytes)

    async def _replace(self) -> None:
        """Put a damaged file out of the way."""
        db, self._db = self._db, None
        self._trouble = f"it is damaged: {self._damage}"
        if db is not None:
            await _close(db)
        aside = await asyncio.to_thread(set_aside, self._path, self._now())
        log.error("spool_damaged", why=self._damage, file=str(aside))
        DAMAGED.labels("file").inc()
        self._damage = ""

    async def _rescue(self, aside: Path) -> None:
        """Save what is good in a file that was set aside; rows that an earlier rescue saved are passed over."""
        known = set(await self.floors())
        wreck = Wreck(aside)
        batches = wreck.rows()
        saved = 0
        while (rows := await asyncio.to_thread(next, batches, None)) is not None:
            new = {row.receipt_id: row for row in rows if row.receipt_id not in known}
            known.update(new)
            appender = self._opened().appender(spooled)
            await asyncio.gather(*(appender.append(sealed(r.values, r.floor)) for r in new.values()))
            self._count(len(new), sum(weigh(row.values) for row in new.values()))
            saved += len(new)
        kept = await asyncio.to_thread(finished, aside)
        self.set_aside.append(kept)
        DAMAGED.labels("row_saved").inc(saved)
        DAMAGED.labels("row_lost").inc(wreck.lost)
        log.error("spool_rescued", file=str(kept), saved=saved, lost=wreck.lost)

    async def _read(self, query: str) -> list[Sequence[Any]]:
        return await self._guarded(self._opened().read(lambda conn: list(conn.exec_driver_sql(query))))

    async def _guarded(self, work: Awaitable[T]) -> T:
        """Await, and take note of an error that says that the file is not what it should be."""
        try:
            return await work
        except StoreError as error:
            if isinstance(error, StoreDamaged | SchemaMismatch) or type(error) is StoreError:
                self._damage = str(error)
            raise SpoolUnavailable(f"the spool: {error}") from error

    def _opened(self) -> Database:
        if self._db is None or self._damage:
            raise SpoolUnavailable(f"there is no spool: {self._damage or self._trouble}")
        return self._db

    def _appended(self, done: asyncio.Future[None], weight: int) -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, StoreDamaged):
            self._damage = str(error)
        if error is not None and not isinstance(error, NotConfirmed):  # which may be written all the same
            self._count(-1, -weight)

    def _count(self, rows: int, size: int) -> None:
        self.rows += rows
        self._bytes += size
        ROWS.set(self.rows)
        BYTES.set(self._bytes)


async def _close(db: Database) -> None:
    """Close a file that may be past closing well."""
    try:
        await db.close()
    except Exception as error:
        log.warning("spool_not_closed", error=str(error))


def _number(raw: bytes | None) -> int:
    return int(raw) if raw and raw.isdigit() else 0
