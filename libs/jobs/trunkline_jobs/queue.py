"""The queue's face: synchronous functions over a Connection, which join a service's own transaction."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store import BulkInsert, Clock, Database, StoreError, SystemClock
from trunkline_store.types import UtcTimestamp

from trunkline_jobs.claim import NO_BOUNDS, Asked, Claims, Load, Room, Tries
from trunkline_jobs.leases import Ended, Held, Leases
from trunkline_jobs.model import NOT_TOLD, Job, JobState, Lease, NewJob, QueueClass, Ran
from trunkline_jobs.rows import with_entry
from trunkline_jobs.table import KEY
from trunkline_jobs.untold import TOLD, Tellings, Untold, untold_from

P = ParamSpec("P")
T = TypeVar("T")
# What most jobs begin with: the same objects, which a bulk insert writes as text once.
_EMPTY: dict[str, Any] = {}
_NO_HISTORY: list[Any] = []
_WAITING, _DEAD = JobState.WAITING.value, JobState.DEAD.value
_INSERTED = (
    *KEY, "queue_class", "shard", "kind", "subject", "group_key", "stage", "state", "visible_at", "attempts",
    "lease_token", "generation", "checkpoint", "last_error", "history", "buried_at", "created_at", "updated_at",
)  # fmt: skip
"""The columns of a new job's row that are not NULL for all of them."""
_ALIKE = [name for name in _INSERTED if name not in (*KEY, "shard", "subject", "group_key")]

_DATABASE_TIME: sa.Select[datetime] = sa.select(sa.func.current_timestamp(type_=UtcTimestamp))


class Queue:
    """A queue in the tables that jobs_table() declared.

    Call its methods inside `db.write` (or `db.read` for those that only look), or, for one alone,
    `await queue.run(queue.claim, "worker-1", 8, 30.0)`.

    Where many processes share a queue (Spanner), leases begin and end by the database's time, not by theirs; a
    clock that was injected, here or into the database, goes before it.
    """

    def __init__(self, db: Database, table: sa.Table, clock: Clock | None = None, *, shards: int = 1) -> None:
        self._db = db
        self._table = table
        self._clock = clock or db.clock
        self._database_time = clock is None and db.features.shared_time and isinstance(db.clock, SystemClock)
        self._shards = shards
        self._claims = Claims(table, shards, recursive_queries=db.features.recursive_queries)
        self._leases = Leases(table)
        self._tellings = Tellings(table)
        self._bulk = BulkInsert(table, _INSERTED, if_absent=KEY, alike=_ALIKE)

    async def run(
        self, operation: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run one of the operations below in a transaction of its own; returns after the commit."""
        return await self._db.write(lambda conn: operation(conn, *args, **kwargs))

    def enqueue_many(
        self, conn: Connection, jobs: Iterable[NewJob], *, tell: bool = True
    ) -> set[tuple[str, str]]:
        """Add jobs by one statement; the keys (tenant, job id) that this call added, where they are to be told.

        A job whose key is there, in whatever state, stays as it is.
        """
        now = self._clock.now()
        return self._bulk.run(conn, [self._row(job, now) for job in jobs], tell=tell)

    def claim(
        self,
        conn: Connection,
        owner: str,
        limit: int,
        lease_seconds: float,
        classes: Sequence[int] = tuple(QueueClass),
        in_flight_caps: Mapping[int, int] | None = None,
        room: Room = NO_BOUNDS,
        capped: set[str] | None = None,
        load: Load | None = None,
        tries: Tries | None = None,
        kinds: Mapping[str, int] | None = None,
    ) -> list[Job]:
        """Lease up to `limit` jobs to `owner`, in the order they should run.

        Classes in the order given: a later one gets what the earlier ones left. Inside a class round robin
        over tenants, one job a turn, beginning after the tenant served last; of a tenant the job that is due
        longest. A job whose group (of its tenant) has a live lease waits, and a claim holds at most one of a
        group. `in_flight_caps` is the most live leases one tenant may have in a class, all owners counted;
        `room` bounds what the owner holds and keeps some of its slots for the quiet. Expired leases are
        claimed like waiting jobs, under a new token. To `capped` are added the tenants whose jobs are due
        and wait for the cap alone. `load` bounds what the claim carries in bytes; by `tries` jobs are buried, not
        leased, whose last attempt ended with their lease, and are `untold` then. `kinds` bounds how many jobs of a
        kind are leased by this claim; a kind that is not there is not bounded.
        """
        if limit <= 0:
            return []
        lease = timedelta(seconds=lease_seconds)
        capped = set() if capped is None else capped
        asked = Asked(
            owner,
            limit,
            lease,
            tuple(classes),
            in_flight_caps or {},
            self.now(conn),
            room,
            capped,
            load,
            tries,
            kinds or {},
        )
        return self._claims.claim(conn, asked)

    def any_due(self, conn: Connection, classes: Sequence[int] = tuple(QueueClass)) -> bool:
        """Say whether there is a job that a claim could look at: one that is due, and under no lease that lives."""
        return self._claims.any_due(conn, classes, self.now(conn))

    def lease_by_id(self, conn: Connection, job_id: str, token: int) -> Lease:
        """Return the lease of a holder who does not name the tenant. Raises LeaseLost where there is none."""
        return self._leases.by_id(conn, job_id, token)

    def renew(self, conn: Connection, lease: Lease, lease_seconds: float) -> datetime:
        """Keep a lease for that long from now; its new end. Raises LeaseLost."""
        held = self._held(conn, lease)
        until = held.now + timedelta(seconds=lease_seconds)
        self._leases.renew(conn, held, until)
        return until

    def advance(
        self,
        conn: Connection,
        lease: Lease,
        stage: str,
        made: Mapping[str, Any] | None = None,
        ran: Ran = NOT_TOLD,
    ) -> Ended:
        """Enter the next stage, keeping the lease; attempts begin anew. Raises LeaseLost.

        Here and below, `made` holds the resource names that the run made, which are merged into the
        checkpoint, and `ran` says in the history when the run began and ended, and what it went through.
        """
        return self._leases.advance(conn, self._held(conn, lease, made, ran), stage)

    def complete(
        self,
        conn: Connection,
        lease: Lease,
        made: Mapping[str, Any] | None = None,
        ran: Ran = NOT_TOLD,
    ) -> Ended:
        """End the job well; what it was about. Raises LeaseLost."""
        return self._leases.complete(conn, self._held(conn, lease, made, ran))

    def remove(self, conn: Connection, lease: Lease) -> None:
        """End a leased job without a trace, where what became of it is kept elsewhere. Raises LeaseLost."""
        self._leases.remove(conn, self._held(conn, lease))

    def drop(self, conn: Connection, job_id: str, *, tenant_id: str) -> bool:
        """Remove a job in whatever state it is; True when it was there. Its holder finds its lease lost."""
        c = self._table.c
        mine = (c.tenant_id == tenant_id, c.job_id == job_id)
        return conn.execute(sa.delete(self._table).where(*mine)).rowcount == 1

    def count_of(self, conn: Connection, tenant_id: str, most: int) -> int:
        """Return how many jobs of a tenant have a row, counted up to `most`."""
        some = sa.select(self._table.c.job_id).where(self._table.c.tenant_id == tenant_id).limit(most)
        counted = sa.select(sa.func.count()).select_from(some.subquery())
        return int(conn.execute(counted).scalar_one())

    def reschedule(
        self,
        conn: Connection,
        lease: Lease,
        delay: timedelta | float,
        spend_attempt: bool = True,
        error: Mapping[str, Any] | None = None,
        made: Mapping[str, Any] | None = None,
        ran: Ran = NOT_TOLD,
        queue_class: int | None = None,
    ) -> Ended:
        """Give the job back, to be claimed after `delay` (seconds or timedelta). Raises LeaseLost.

        `spend_attempt=False` is for what is not the stage's fault, such as a recording that is not ready;
        `queue_class` moves it to another class.
        """
        delay = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
        held = self._held(conn, lease, made, ran)
        return self._leases.reschedule(conn, held, delay, spend_attempt, error, queue_class)

    def bury(
        self,
        conn: Connection,
        lease: Lease,
        error: Mapping[str, Any],
        made: Mapping[str, Any] | None = None,
        ran: Ran = NOT_TOLD,
        *,
        untold: bool = False,
    ) -> Ended:
        """Make the job a dead letter with its reason; what it was about. Raises LeaseLost.

        `untold` marks it for `untold()`: its holder has told nobody of it.
        """
        return self._leases.bury(conn, self._held(conn, lease, made, ran), error, untold=untold)

    def untold(self, conn: Connection, limit: int) -> list[Untold]:
        """Return jobs that ended without anybody to tell of it and that are due to be told of, the longest due first.

        The mark is written in the transaction that ends the job (by a claim, `cancel`, or `bury` with `untold`), and
        stays until `told`, or until the job is revived.
        """
        return self._tellings.due(conn, self.now(conn), limit)

    def told(self, conn: Connection, job: Untold) -> None:
        """Clear the mark of a job; one that was set going and ended again meanwhile keeps its new mark."""
        self._tellings.clear(conn, job)

    def tell_later(self, conn: Connection, job: Untold, delay: timedelta) -> None:
        """Count a try that failed, and have the job told of after `delay`."""
        self._tellings.postpone(conn, job, self.now(conn) + delay)

    def release(self, conn: Connection, owner: str) -> int:
        """Give back everything an owner holds, spending no attempt (a clean stop); how many."""
        return self._leases.release(conn, owner, self.now(conn))

    def revive(
        self,
        conn: Connection,
        job_id: str,
        *,
        tenant_id: str,
        new_generation: bool = False,
        stage: str | None = None,
    ) -> bool:
        """Make a dead letter, or a cancelled job, claimable again; True when it was. Twice changes nothing twice.

        `new_generation` is the forced replay: it takes done jobs too, and adds one to the generation. With
        `stage` it begins there with an empty checkpoint; without, it goes on where it stopped.
        """
        c = self._table.c
        now = self.now(conn)
        values: dict[str, Any] = {
            "state": JobState.WAITING.value,
            "visible_at": now,
            "attempts": 0,
            "stage_began_at": None,
            "buried_at": None,
            "updated_at": now,
            **TOLD,
        }
        states = [JobState.DEAD.value, JobState.CANCELLED.value]
        if new_generation:
            states.append(JobState.DONE.value)
            values["generation"] = c.generation + 1
        if stage is not None:
            values |= {"stage": stage, "checkpoint": {}}
        mine = (c.tenant_id == tenant_id, c.job_id == job_id, c.state.in_(states))
        return conn.execute(sa.update(self._table).where(*mine).values(values)).rowcount == 1

    def cancel(self, conn: Connection, job_id: str, *, tenant_id: str) -> bool:
        """End a job that waits, or is a dead letter; True when it was. One under a lease belongs to its holder.

        A job that this ends is `untold`.
        """
        c = self._table.c
        stoppable = c.state.in_([JobState.WAITING.value, JobState.DEAD.value])
        mine = (c.tenant_id == tenant_id, c.job_id == job_id, stoppable)
        found = sa.select(c.stage, c.attempts, c.lease_owner, c.history).where(*mine)
        row = conn.execute(found).mappings().first()
        if row is None:
            return False
        now = self.now(conn)
        values = {
            "state": JobState.CANCELLED.value,
            "visible_at": None,
            "buried_at": None,
            "history": with_entry(dict(row), now, "cancelled"),
            "updated_at": now,
            **untold_from(now),
        }
        return conn.execute(sa.update(self._table).where(*mine).values(values)).rowcount == 1

    def _held(
        self,
        conn: Connection,
        lease: Lease,
        made: Mapping[str, Any] | None = None,
        ran: Ran = NOT_TOLD,
    ) -> Held:
        return Held(lease, self.now(conn), made, ran)

    def now(self, conn: Connection) -> datetime:
        """Return the time that leases begin and end by."""
        if self._database_time:
            return conn.execute(_DATABASE_TIME).scalar_one()
        return self._clock.now()

    def _row(self, job: NewJob, now: datetime) -> tuple[Any, ...]:
        """Return a job's row; `now`, not worth a question to the database, only says when to look first."""
        if not job.job_id or not job.tenant_id:
            raise StoreError("a job needs an id and a tenant")
        dead = job.dead is not None
        return (
            job.tenant_id,
            job.job_id,
            int(job.queue_class),
            zlib.crc32(job.job_id.encode()) % self._shards if self._shards > 1 else 0,
            job.kind,
            job.subject,
            job.group_key,
            job.stage,
            _DEAD if dead else _WAITING,
            None if dead else job.visible_at or now,
            0,
            0,
            job.generation,
            dict(job.checkpoint) if job.checkpoint else _EMPTY,
            job.dead,
            _NO_HISTORY,
            now if dead else None,
            now,
            now,
        )
