"""Operations as rows: started once a request id, read, listed, cancelled, deleted, and ended by what works on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

import sqlalchemy as sa
from google.protobuf.message import Message
from google.rpc import status_pb2
from sqlalchemy.engine import Connection
from trunkline_runtime.api import resources
from trunkline_runtime.api.columns import Filter, conditions
from trunkline_runtime.api.filters import FieldType
from trunkline_runtime.digests import digest, letters
from trunkline_runtime.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    to_status,
)
from trunkline_runtime.observe import tracing
from trunkline_runtime.process.pace import first_of
from trunkline_runtime.process.periodic import set_aside
from trunkline_runtime.rpc.operations import operation_name
from trunkline_store import Database, insert_if_absent
from trunkline_store.hot import Hot
from trunkline_store.records.deletion import delete_all, delete_keys, owners
from trunkline_store.records.expiry import is_over, lives, overdue
from trunkline_store.records.keyset import Page, Place

from trunkline_jobs.model import NewJob, QueueClass
from trunkline_jobs.operations.model import Operation, OperationState, packed
from trunkline_jobs.operations.waiters import Waiters
from trunkline_jobs.queue import Queue

MOST_RUNNING = 1_000
TRACE = "traceparent"
"""In the checkpoint of an operation's job: where in a trace it was started."""
LOOK_SECONDS = 0.5
_KEY = ["tenant_id", "operation_id"]
_ID_LETTERS = 26
_RETRY_SECONDS = 5.0
_LASTING = (OperationState.RUNNING, OperationState.SUCCEEDED)


class Beside(Protocol):
    """What a kind of operation keeps beside its rows."""

    def deleted(self, conn: Connection, operation: Operation) -> None:
        """Delete it, in the transaction that deletes the operation."""

    async def cancelled(self, operation: Operation) -> None:
        """Hear that an operation that ran was cancelled: what works on it elsewhere is to stop. Raises nothing."""


class Operations:
    """The operations of one service; every call names one tenant. One whose time has come is not there any more.

    The methods that take a Connection join the transaction of whoever works on an operation.
    """

    def __init__(
        self,
        db: Database,
        table: sa.Table,
        queue: Queue,
        *,
        service: str,
        keep: timedelta,
        list_staleness: timedelta | None = None,
        look_seconds: float = LOOK_SECONDS,
        most_running: int = MOST_RUNNING,
    ) -> None:
        """Take the store, the table and the queue beside it.

        Ids begin with `service`. An operation is kept for `keep` after its end. Another process may end one: one look
        for all who wait, every `look_seconds`, finds out. `list_staleness` is how old a page may be, as in
        Database.read. Of one tenant at most `most_running` run; the next one is refused until one of them has ended.
        """
        self.db = db
        self.queue = queue
        self.started = asyncio.Event()
        """Set when there is something new to work on."""
        self.cancelled = asyncio.Event()
        """Set when one was cancelled that may be worked on here."""
        self._table = table
        self._service = service
        self._keep = keep
        self._list_staleness = list_staleness
        self._most_running = most_running
        self._waiters = Waiters(self._running, look_seconds)
        self._watchers = Waiters(self._unchanged, look_seconds)
        self._seen: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._beside: dict[str, Beside] = {}
        c = table.c
        self._filters = {
            "kind": Filter(FieldType.STRING, c.kind),
            "state": Filter(FieldType.choice(*OperationState), c.state),
            "create_time": Filter(FieldType.TIMESTAMP, c.created_at),
        }
        self._one = Hot(
            sa.select(table).where(
                c.tenant_id == sa.bindparam("tenant"), c.operation_id == sa.bindparam("operation")
            )
        )

    def keep_beside(self, kind: str, beside: Beside) -> None:
        """Tell what the operations of a kind keep beside their rows."""
        self._beside[kind] = beside

    async def start(
        self,
        tenant: str,
        kind: str,
        request: Message,
        metadata: Message,
        *,
        request_id: str = "",
        requested_by: str = "",
        check: Callable[[Connection], None] | None = None,
        may_differ: Sequence[str] = (),
        queue_class: int = QueueClass.REALTIME,
    ) -> Operation:
        """Keep a new operation and its job, or return the one that this tenant's `request_id` started.

        One that failed or was cancelled begins anew, under its name: whoever sends a request again wants it done.
        `metadata` is a message with the field `progress` (common.v1.OperationProgress). `check` looks, in the same
        transaction, whether it may begin, and raises if not. `may_differ` names the fields of a repeated request that
        need not be the same. `queue_class` is the class of its job. Raises InvalidArgument("request_id") when that id
        started one by another request, ResourceExhausted when too many of the tenant run.
        """
        now = self.db.clock.now()
        place = tracing.current()
        made = Operation(
            tenant_id=tenant,
            operation_id=self._new_id(tenant, kind, request_id),
            kind=kind,
            state=OperationState.RUNNING,
            request=request.SerializeToString(deterministic=True),
            metadata=packed(metadata),
            response=None,
            error=None,
            problem=None,
            attempts=0,
            requested_by=requested_by,
            created_at=now,
            ended_at=None,
            expire_at=None,
        )

        def work(conn: Connection) -> Operation:
            there = self.read(conn, tenant, made.operation_id)
            lasts = there is not None and there.state in _LASTING and not is_over(there.expire_at, now)
            if there is not None and lasts:
                if not _is_same(request, there.request, may_differ):
                    raise InvalidArgument("request_id", "was used for another request")
                return there
            if there is not None:  # it failed, or waits for its deletion: the new one takes its place
                delete_keys(conn, self._table, [(tenant, made.operation_id)])
            if check is not None:
                check(conn)
            most = self._most_running
            if self.queue.count_of(conn, tenant, most) >= most:
                raise ResourceExhausted(
                    f"{most} operations of the tenant run; wait for one of them, or cancel one",
                    reason="TOO_MANY_OPERATIONS",
                    subject="running operations",
                    retry_after=_RETRY_SECONDS,
                )
            insert_if_absent(conn, self._table, {**vars(made), "state": made.state.value}, _KEY)
            job = NewJob(
                made.operation_id,
                tenant,
                kind,
                made.operation_id,
                stage=kind,
                queue_class=queue_class,
                checkpoint={TRACE: place.traceparent} if place is not None else None,
            )
            self.queue.enqueue_many(conn, [job])
            return made

        found = await self.db.write(work)
        self.started.set()
        return found

    async def get(self, tenant: str, operation: str) -> Operation:
        """Return one operation. Raises NotFound."""
        found = await self.db.peek(lambda conn: self.read(conn, tenant, operation))
        return self._living(found, tenant, operation)

    async def page(self, tenant: str, place: Place, filter_: str = "") -> tuple[list[Operation], str]:
        """Return a page of a tenant's operations, the latest first, and the next page's token.

        Raises InvalidArgument("filter").
        """
        c = self._table.c
        living = lives(c.expire_at, self.db.clock.now())
        query = sa.select(self._table).where(
            c.tenant_id == tenant, living, *conditions(filter_, self._filters)
        )
        page = Page(query, [c.created_at, c.operation_id], place, descending=True)
        return await self.db.scan(page.made(lambda row: _of(row._mapping)), staleness=self._list_staleness)

    async def wait(
        self, tenant: str, operation: str, seconds: float, stop: asyncio.Event | None = None
    ) -> Operation:
        """Return an operation once it has ended, `stop` is set, or so many seconds have passed. Raises NotFound."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        with self._waiters.entered(tenant, operation) as ended:
            while True:
                ended.clear()
                found = await self.get(tenant, operation)
                left = until - loop.time()
                if found.done or left <= 0 or (stop is not None and stop.is_set()):
                    return found
                await first_of([ended] if stop is None else [ended, stop], left)

    async def cancel(self, tenant: str, operation: str) -> None:
        """End one that runs; one that has ended stays as it is. Raises NotFound.

        What works on it finds its lease lost and stops, as soon as it can.
        """

        def work(conn: Connection) -> Operation:
            found = self._living(self.read(conn, tenant, operation), tenant, operation)
            if not found.done:
                cancelled = Cancelled("the operation was cancelled", reason="OPERATION_CANCELLED")
                self.queue.drop(conn, operation, tenant_id=tenant)
                self.end(conn, tenant, operation, OperationState.CANCELLED, error=to_status(cancelled))
            return found

        found = await self.db.write(work)
        self.cancelled.set()
        self.told(tenant, operation)
        beside = self._beside.get(found.kind)
        if beside is not None and not found.done:
            await beside.cancelled(found)

    async def delete(self, tenant: str, operation: str) -> None:
        """Delete one that has ended, and nothing that it made. Raises NotFound, FailedPrecondition while it runs."""

        def work(conn: Connection) -> None:
            found = self._living(self.read(conn, tenant, operation), tenant, operation)
            if not found.done:
                raise FailedPrecondition(
                    "the operation is running; cancel it first", reason="OPERATION_RUNNING"
                )
            beside = self._beside.get(found.kind)
            if beside is not None:
                beside.deleted(conn, found)
            delete_keys(conn, self._table, [(tenant, operation)])

        await self.db.write(work)
        self.told(tenant, operation)

    async def sweep(self) -> int:
        """Delete what is past its time, where the store does not do so by itself; how many."""
        removed = 0
        if self.db.features.deletes_expired:
            return removed
        now = self.db.clock.now()
        async for tenant in owners(self.db, self._table):
            with set_aside("retention", tenant=tenant, of=self._table.name):
                removed += await delete_all(self.db, self._table, overdue(self._table, tenant, now))
        return removed

    def read(self, conn: Connection, tenant: str, operation: str) -> Operation | None:
        """Return an operation's row, also of one whose time has come; None when it is not there."""
        row = self._one.first(conn, {"tenant": tenant, "operation": operation})
        return None if row is None else _of(row)

    def end(
        self,
        conn: Connection,
        tenant: str,
        operation: str,
        state: OperationState,
        *,
        response: Message | None = None,
        error: status_pb2.Status | None = None,
    ) -> None:
        """Write how one that runs ended; its job is removed by the caller, in the same transaction."""
        now = self.db.clock.now()
        self._change(
            conn,
            tenant,
            operation,
            state=state.value,
            response=None if response is None else packed(response),
            error=None if error is None else error.SerializeToString(),
            problem=None,
            ended_at=now,
            expire_at=now + self._keep,
        )

    def began(self, conn: Connection, tenant: str, operation: str, attempts: int) -> None:
        """Write that an attempt begins."""
        self._change(conn, tenant, operation, attempts=attempts, problem=None)

    def halted(
        self, conn: Connection, tenant: str, operation: str, attempts: int, problem: status_pb2.Status
    ) -> None:
        """Write why an attempt ended, and how many were spent."""
        self._change(conn, tenant, operation, attempts=attempts, problem=problem.SerializeToString())

    def state(self, conn: Connection, tenant: str, operation: str, metadata: Message) -> None:
        """Write what is known of it so far."""
        self._change(conn, tenant, operation, metadata=packed(metadata))

    def told(self, tenant: str, operation: str) -> None:
        """Wake whoever waits for the end of an operation."""
        self._waiters.wake(tenant, operation)
        self.stirred(tenant, operation)

    def stirred(self, tenant: str, operation: str) -> None:
        """Wake whoever watches an operation: it got on."""
        self._watchers.wake(tenant, operation)

    @contextmanager
    def watched(self, tenant: str, operation: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the operation may have got on, here or in another process."""
        with self._watchers.entered(tenant, operation) as stirred:
            yield stirred

    async def _unchanged(self, tenant: str, operations: Collection[str]) -> set[str]:
        """Return which of a tenant's operations are as they were at the look before."""
        c = self._table.c
        rows = await self.db.read(
            lambda conn: conn.execute(
                sa.select(c.operation_id, c.state, c.metadata, c.problem).where(
                    c.tenant_id == tenant, c.operation_id.in_(operations)
                )
            ).all()
        )
        watched = self._watchers.entries()
        before = {key: seen for key, seen in self._seen.items() if key in watched}
        self._seen = before | {(tenant, row.operation_id): tuple(row) for row in rows}
        return {row.operation_id for row in rows if before.get((tenant, row.operation_id)) == tuple(row)}

    async def _running(self, tenant: str, operations: Collection[str]) -> set[str]:
        """Return which of a tenant's operations run."""
        c = self._table.c
        running = sa.select(c.operation_id).where(
            c.tenant_id == tenant,
            c.operation_id.in_(operations),
            c.state == OperationState.RUNNING.value,
        )
        return await self.db.read(lambda conn: set(conn.execute(running).scalars()))

    def _change(self, conn: Connection, tenant: str, operation: str, **values: Any) -> None:
        c = self._table.c
        running = (
            c.tenant_id == tenant,
            c.operation_id == operation,
            c.state == OperationState.RUNNING.value,
        )
        conn.execute(sa.update(self._table).where(*running).values(**values))

    def _living(self, found: Operation | None, tenant: str, operation: str) -> Operation:
        if found is None or is_over(found.expire_at, self.db.clock.now()):
            raise NotFound(operation_name(tenant, operation))
        return found

    def _new_id(self, tenant: str, kind: str, request_id: str) -> str:
        unique = letters(digest(tenant, kind, request_id), _ID_LETTERS) if request_id else resources.new_id()
        return f"{self._service}-{unique}"


def _of(row: Any) -> Operation:
    return Operation(**{**row, "state": OperationState(row["state"])})


def _is_same(request: Message, stored: bytes, may_differ: Sequence[str]) -> bool:
    mine, other = type(request)(), type(request)()
    mine.CopyFrom(request)
    other.ParseFromString(stored)
    for name in may_differ:
        mine.ClearField(name)
        other.ClearField(name)
    return mine == other
