"""The spool: receipts that the store could not take, in a log of their own (spool_log.py), bounded in bytes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import gauge
from trunkline_store.errors import InvalidValue, StoreBusy, StoreError, StoreUnavailable, StoreUnsupported
from trunkline_store.sqlite.lock import FileLock
from trunkline_store.types import from_microseconds, to_microseconds

from trunkline_gateway.intake.spool_log import Frame, Log
from trunkline_gateway.receipts import NewReceipt

log = get_logger(__name__)

ROWS = gauge("trunkline_spool_rows", "Receipts that wait in the spool for the store.")
BYTES = gauge("trunkline_spool_bytes", "Bytes of the receipts in the spool.")
# Of receipts that are on their way to the log, in memory, and of those that are written as one group.
MOST_COMING_BYTES = 64 << 20
GROUP_BYTES = 4 << 20
Run = Callable[..., Awaitable[Any]]


class SpoolUnavailable(StoreUnavailable):
    """The spool can neither take nor give rows now."""

    reason = "SPOOL_UNAVAILABLE"


class SpoolFull(SpoolUnavailable):
    """The spool holds as many bytes as it may: nothing was written."""

    reason = "SPOOL_FULL"


class Spooled(NamedTuple):
    """A receipt in the spool."""

    frame: Frame
    floor: int  # the store's last receipt before this one was handed to it: if it is there, it stands behind that
    receipt: NewReceipt

    @property
    def receipt_id(self) -> str:
        """The receipt's id."""
        return self.receipt.receipt_id


class Spool:
    """The folder. Made closed; `care` opens it, and is called now and then in case it could not be."""

    def __init__(self, folder: Path, max_bytes: int, run: Run | None = None):
        """`max_bytes` bounds frames that wait; `run` awaits a function's call, one at a time, in a thread."""
        self.log = Log(folder)
        self._folder = folder
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, "spool")
        self._run = run or self._in_thread
        self._trouble = "it is not open"
        self._coming: list[tuple[bytes, asyncio.Future[None]]] = []
        self._weight = 0  # of what is not in the log yet
        self._writer: asyncio.Task[None] | None = None

    @property
    def rows(self) -> int:
        """Receipts in it."""
        return self.log.rows

    @property
    def trouble(self) -> str:
        """Why it takes no receipts now; empty when it does."""
        return self._trouble or ("it is full" if self.log.size >= self._max_bytes else "")

    def describe(self) -> list[str]:
        """Return lines for an operator; none when there is nothing to say."""
        lines = (
            [f"spool: {self.rows} receipts, {self.log.size} bytes wait for the store"] if self.rows else []
        )
        if self.trouble:
            lines.append(f"spool: takes no receipts: {self.trouble}")
        return lines + [f"spool: a damaged file was set aside: {path}" for path in self.log.set_aside]

    def append(self, receipt: NewReceipt, floor: int) -> asyncio.Future[None]:
        """Write a receipt; the future is done when it is durable. Raises, or that does, StoreError."""
        payload = packed(receipt, floor)
        if self.log.size + self._weight + len(payload) > self._max_bytes:
            raise SpoolFull(f"the spool holds {self.log.size} bytes of {self._max_bytes}")
        if self._coming and self._weight + len(payload) > MOST_COMING_BYTES:
            raise StoreBusy(f"{self._weight} bytes wait to be written to the spool")
        if self._trouble:
            raise SpoolUnavailable(f"there is no spool: {self._trouble}")
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._coming.append((payload, future))
        self._weight += len(payload)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return future

    async def first(self, limit: int, skip: Collection[Frame]) -> list[Spooled]:
        """Return the oldest receipts but those in `skip`. Raises SpoolUnavailable."""
        return [unpacked(frame) for frame in await self._do(self.log.first, limit, skip)]

    async def forget(self, rows: Collection[Spooled]) -> None:
        """Let go of receipts that the store holds now. Raises SpoolUnavailable."""
        await self._do(self.log.forget, [row.frame for row in rows])

    async def floors(self) -> dict[str, int]:
        """Return the floor of every receipt in it, by the receipt's id. Raises SpoolUnavailable."""

        def read() -> dict[str, int]:
            facts = (json.loads(payload.partition(b"\n")[0]) for payload in self.log.payloads())
            return {fact["receipt_id"]: fact["floor"] for fact in facts}

        floors: dict[str, int] = await self._do(read)
        return floors

    async def care(self) -> bool:
        """Open it where that is due; True when it was, so that it may hold what this object did not append.

        Raises StoreLocked when another gateway uses the folder, StoreUnsupported for the file of an earlier release.
        """
        if not self._trouble:
            return False
        try:
            await self._run(_make_room, self._folder)
            await self._run(self.log.open)
        except (StoreUnavailable, OSError) as error:
            if self._trouble != str(error):
                log.warning("spool_not_open", path=str(self._folder), error=str(error))
            self._trouble = str(error)
            return False
        self._trouble = ""
        self._tell()
        return True

    async def close(self) -> None:
        """Close it; what is in it waits for the next start."""
        self._trouble = "it is closed"
        if self._writer is not None:
            await self._writer
        await self._run(self.log.close)
        self._thread.shutdown(wait=False)

    async def _write(self) -> None:
        while self._coming:
            group = self._coming[: _fitting(self._coming)]
            del self._coming[: len(group)]
            error: Exception | None = None
            try:
                await self._do(self.log.append, [payload for payload, _ in group])
            except StoreError as failed:
                error = StoreUnavailable(str(failed))
            except Exception as failed:  # whatever it is, their senders are answered
                log.error("spool_write_failed", exc_info=failed)
                error = StoreUnavailable(f"the spool: {type(failed).__name__}")
            self._weight -= sum(len(payload) for payload, _ in group)
            for future in (future for _, future in group if not future.done()):
                future.set_exception(error) if error else future.set_result(None)

    async def _do(self, work: Callable[..., Any], *given: Any) -> Any:
        try:
            return await self._run(work, *given)
        except OSError as error:
            raise SpoolUnavailable(f"the spool: {error.strerror or error}") from error
        finally:
            self._tell()

    async def _in_thread(self, work: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    def _tell(self) -> None:
        ROWS.set(self.log.rows)
        BYTES.set(self.log.size)


def _fitting(coming: Sequence[tuple[bytes, object]]) -> int:
    """Return how many of these are written at once: those of a group wait for its last."""
    room = GROUP_BYTES
    for count, (payload, _) in enumerate(coming, 1):
        room -= len(payload)
        if room <= 0:
            return count
    return len(coming)


def packed(receipt: NewReceipt, floor: int) -> bytes:
    """Return a receipt as a frame holds it: a line of JSON, the headers, the body. Raises InvalidValue."""
    facts = receipt._asdict() | {"floor": floor}
    headers, body = facts.pop("headers"), facts.pop("body")
    facts |= {"headers": len(headers), "received_at": to_microseconds(facts["received_at"])}
    try:
        return b"%b\n%b%b" % (json.dumps(facts, ensure_ascii=False).encode(), headers, body)
    except UnicodeEncodeError as error:
        raise InvalidValue(f"a receipt with a lone surrogate: {error}") from None


def unpacked(frame: Frame) -> Spooled:
    """Return the receipt that a frame holds."""
    line, _, rest = frame.payload.partition(b"\n")
    facts = json.loads(line)
    headers, body = rest[: facts["headers"]], rest[facts["headers"] :]
    facts |= {"headers": headers, "body": body, "received_at": from_microseconds(facts["received_at"])}
    return Spooled(frame, facts["floor"], NewReceipt(**{name: facts[name] for name in NewReceipt._fields}))


def _make_room(folder: Path) -> None:
    """Remove the SQLite spool that an earlier release left here, if it is empty. Raises StoreUnsupported if not."""
    if not folder.is_file():
        return
    with ExitStack() as stack:
        stack.callback(FileLock(folder).release)
        try:
            with closing(sqlite3.connect(f"{folder.absolute().as_uri()}?mode=rw", uri=True)) as old:
                (rows,) = old.execute("SELECT count(*) FROM receipts").fetchone()
        except sqlite3.Error as error:
            raise StoreUnsupported(
                f"{folder} must be a folder, and is a file: move it away ({error})"
            ) from None
        if rows or list(folder.parent.glob(f"{folder.name}.rescuing-*")):
            raise StoreUnsupported(
                f"{folder} is the spool of an earlier release and holds {rows} receipts: "
                "run that release until its trunkline_spool_rows is 0, then start this one"
            )
        for suffix in ("-wal", "-shm", ""):
            Path(f"{folder}{suffix}").unlink(missing_ok=True)
