"""Replaying events: one at once, or many at a rate by a task that goes on where a crash left it.

A replay's row holds how far it has come; the events of a step are revived in the transaction that moves it on, so
a replay sets no event going twice. Events that came after it was asked for are none of its business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from trunkline.gateway.v1 import replay_pb2
from trunkline_jobs import JobState, Queue, QueueClass, Tasks
from trunkline_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.metrics import counter
from trunkline_store import Database, insert_if_absent
from trunkline_store.records.keyset import behind
from trunkline_store.records.tombstones import buried

from trunkline_gateway import ids
from trunkline_gateway.events.rows import counted, event_conditions, job_of, joined
from trunkline_gateway.intake.decision import FIRST_STAGE
from trunkline_gateway.intake.kept import running_replays
from trunkline_gateway.schema import JOB_ID, deleted_tenants, events, jobs, replays

REPLAYED = counter("trunkline_replayed_total", "Events that were set going again.", ["forced"])

DEFAULT_RATE = 10.0
# As the request's rule in the proto says; a row that an earlier version wrote may say otherwise.
LEAST_RATE, MOST_RATE = 0.01, 1000.0
REPLAY = "replay"
"""The kind of task that a replay is."""
_STEP_SECONDS = 0.5
_STEP_MOST = 100
_ERROR_MOST = 600


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are to be replayed, and how."""

    tenant: str
    filter: str
    force: bool
    rate: float
    request_id: str = ""
    fetch_again: bool = False


def replay_event(
    conn: sa.Connection,
    queue: Queue,
    tenant: str,
    event_id: str,
    *,
    force: bool,
    generation: int | None,
    fetch_again: bool = False,
) -> bool:
    """Set one event going; False when nothing was to be done. Raises NotFound, FailedPrecondition."""
    query = (
        sa.select(jobs.c.state, jobs.c.generation)
        .select_from(joined())
        .where(events.c.tenant_id == tenant, events.c.event_id == event_id)
    )
    row = conn.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"tenants/{tenant}/events/{event_id}")
    if generation is not None and generation != row.generation:
        return False
    if row.state == JobState.DONE and not force:
        raise FailedPrecondition(
            "the event is done; to process it again under the next generation, set force", reason="EVENT_DONE"
        )
    return revive(conn, queue, tenant, event_id, force=force, fetch_again=fetch_again)


def revive(
    conn: sa.Connection,
    queue: Queue,
    tenant: str,
    event_id: str,
    *,
    force: bool,
    fetch_again: bool = False,
) -> bool:
    """Make an event's job claimable: a dead one where it stopped, with `force` also a done one, from the start.

    With `fetch_again` its recording is another one from now on: that which its provider has by then. A trace begins.
    """
    stage = FIRST_STAGE if force else None
    job_id = job_of(conn, tenant, event_id)
    if not queue.revive(conn, job_id, tenant_id=tenant, new_generation=force, stage=stage):
        return False
    changed(conn, tenant, event_id, queue.now(conn))
    mine = (events.c.tenant_id == tenant) & (events.c.event_id == event_id)
    values: dict[str, Any] = {"trace_id": ids.receipt_id(tracing.samples("replays"))}
    if fetch_again:
        values["fetch_generation"] = sa.func.coalesce(events.c.fetch_generation, 0) + 1
    conn.execute(events.update().where(mine).values(values))
    return True


def cancel_event(conn: sa.Connection, queue: Queue, tenant: str, event_id: str) -> None:
    """End an event that waits or is a dead letter. Raises NotFound, FailedPrecondition."""
    if queue.cancel(conn, job_of(conn, tenant, event_id), tenant_id=tenant):
        changed(conn, tenant, event_id, queue.now(conn))
        return
    of_event = (events.c.tenant_id == tenant, events.c.event_id == event_id)
    state = conn.execute(sa.select(jobs.c.state).select_from(joined()).where(*of_event)).scalar()
    if state is None:
        raise NotFound(f"tenants/{tenant}/events/{event_id}")
    if state == JobState.DONE:
        raise FailedPrecondition("the event is done", reason="EVENT_DONE")
    if state == JobState.LEASED:
        raise FailedPrecondition(
            "a worker is processing the event; try again later", reason="EVENT_PROCESSING"
        )


def changed(conn: sa.Connection, tenant: str, event_id: str, now: datetime) -> None:
    """Say in an event that somebody set it going, or stopped it: it is not finished."""
    mine = (events.c.tenant_id == tenant) & (events.c.event_id == event_id)
    conn.execute(events.update().where(mine).values(finished_at=None, updated_at=now))


class Replays:
    """Replays as rows, and the step that each one's task repeats."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        tasks: Tasks,
        jobs_ready: Callable[[], None],
    ):
        """`jobs_ready` is called after events were set going."""
        self._db = db
        self._queue = queue
        self._tasks = tasks
        self._jobs_ready = jobs_ready

    async def count(self, wanted: Wanted) -> replay_pb2.Replay:
        """Say how many events there are, and the first of them."""
        now = self._db.clock.now()
        total, sample = await self._db.scan(lambda conn: _count(conn, wanted, now))
        counted = replay_pb2.Replay(
            filter=wanted.filter,
            force=wanted.force,
            fetch_again=wanted.fetch_again,
            rate_per_second=wanted.rate,
            state=replay_pb2.REPLAY_STATE_DRY_RUN,
            event_count=total,
            sample=sample,
        )
        counted.create_time.FromDatetime(now)
        return counted

    async def start(self, wanted: Wanted, most: int = 0) -> replay_pb2.Replay:
        """Begin a replay, or show the one that the same request began.

        Raises ResourceExhausted where it would be one more than the `most` that a tenant may have at once; 0 is any
        number.
        """
        now = self._db.clock.now()
        named = ("request", wanted.tenant, wanted.request_id) if wanted.request_id else (ids.receipt_id(),)
        replay_id = ids.digest_id("p", named)
        total, sample = await self._db.scan(lambda conn: _count(conn, wanted, now))
        row = {
            "tenant_id": wanted.tenant,
            "replay_id": replay_id,
            "filter": wanted.filter,
            "force": wanted.force,
            "fetch_again": wanted.fetch_again,
            "rate": wanted.rate,
            "event_count": total,
            "replayed_count": 0,
            "sample": sample,
            "created_at": now,
            "finished_at": None,
            "steps": 0,
            "after_time": None,
            "after_id": "",
            "error": None,
        }
        await self._db.write(lambda conn: self._insert(conn, row, most))
        self._tasks.soon()
        there = await self._db.read(lambda conn: _load(conn, wanted.tenant, replay_id))
        asked = (wanted.filter, wanted.force, wanted.rate, wanted.fetch_again)
        if (there.filter, there.force, there.rate, bool(there.fetch_again)) != asked:
            raise InvalidArgument(
                "request_id", "was used for a request with different content", reason="REQUEST_ID_REUSED"
            )
        return replay_message(there)

    async def get(self, tenant: str, replay_id: str) -> replay_pb2.Replay:
        """Show a replay. Raises NotFound."""
        return replay_message(await self._db.read(lambda conn: _load(conn, tenant, replay_id)))

    def resume(self, conn: sa.Connection) -> None:
        """Put the tasks of all replays that run: those of an earlier release have none."""
        query = sa.select(replays.c.tenant_id, replays.c.replay_id).where(replays.c.finished_at.is_(None))
        for row in conn.execute(query).all():
            self._tasks.put(conn, REPLAY, row.replay_id, tenant=row.tenant_id)

    async def advance(self, tenant: str, replay_id: str) -> float | None:
        """Set the next events of a replay going; return in how many seconds more are due, None when it is over."""
        began = self._db.clock.now()
        row = await self._db.read(lambda conn: _find(conn, tenant, replay_id))
        if row is None or row.finished_at is not None:
            return None
        rate = _bounded(row.rate)
        most = max(1, min(_STEP_MOST, int(rate * _STEP_SECONDS)))
        # Found outside of the writer: among a million events that are done the few dead ones are far between.
        found = await self._db.scan(lambda conn: _next(conn, row, most))
        ended = len(found) < most
        replayed = await self._db.write(lambda conn: self._apply(conn, row, found, ended))
        if replayed:
            REPLAYED.labels("yes" if row.force else "no").inc(replayed)
            self._jobs_ready()
        if ended:
            return None
        pause = most / rate
        return min(pause, max(0.0, pause - (self._db.clock.now() - began).total_seconds()))

    def fail(self, conn: sa.Connection, tenant: str, replay_id: str, reason: str) -> None:
        """Write that a replay cannot go on."""
        running = (*_of(tenant, replay_id), replays.c.finished_at.is_(None))
        values = {"finished_at": self._db.clock.now(), "error": reason[:_ERROR_MOST]}
        conn.execute(replays.update().where(*running).values(values))

    def _insert(self, conn: sa.Connection, row: dict[str, Any], most: int) -> None:
        tenant, replay_id = row["tenant_id"], row["replay_id"]
        if buried(conn, deleted_tenants, [tenant]):
            raise NotFound(f"tenants/{tenant}")
        if insert_if_absent(conn, replays, row, key=["tenant_id", "replay_id"]):
            if most and running_replays(conn, tenant) > most:
                raise ResourceExhausted(
                    f"the plan allows {most} replays at once; try again when one has ended",
                    reason="REPLAYS_QUOTA",
                    subject=f"tenants/{tenant}",
                    retry_after=60.0,
                )
            self._tasks.put(conn, REPLAY, replay_id, tenant=tenant)

    def _apply(self, conn: sa.Connection, row: sa.Row[Any], found: Sequence[Any], ended: bool) -> int:
        mine = sa.and_(*_of(row.tenant_id, row.replay_id))
        values: dict[str, Any] = {
            "steps": row.steps + 1,
            "finished_at": self._db.clock.now() if ended else None,
        }
        if found:
            values |= {"after_time": found[-1].received_at, "after_id": found[-1].event_id}
        moved = replays.update().where(mine, replays.c.steps == row.steps).values(values)
        if conn.execute(moved).rowcount != 1:
            return 0  # it was worked on meanwhile, or its tenant was deleted
        revived = [
            event.event_id
            for event in found
            if revive(
                conn,
                self._queue,
                row.tenant_id,
                event.event_id,
                force=row.force,
                fetch_again=bool(row.fetch_again),
            )
        ]
        if revived:
            named = sa.select(JOB_ID).where(
                events.c.tenant_id == row.tenant_id, events.c.event_id.in_(revived)
            )
            behind = jobs.update().where(jobs.c.tenant_id == row.tenant_id, jobs.c.job_id.in_(named))
            conn.execute(behind.values(queue_class=int(QueueClass.BATCH)))
            count = replays.c.replayed_count + len(revived)
            conn.execute(replays.update().where(mine).values(replayed_count=count))
        return len(revived)


def _bounded(rate: float) -> float:
    return min(MOST_RATE, max(LEAST_RATE, rate)) if math.isfinite(rate) else DEFAULT_RATE


def _fitting(tenant: str, filter_: str, force: bool, until: datetime) -> list[Any]:
    states = [JobState.DEAD.value]
    if force:  # what was cancelled goes on only when it is meant
        states += [JobState.DONE.value, JobState.CANCELLED.value]
    return [
        events.c.tenant_id == tenant,
        events.c.received_at <= until,
        jobs.c.state.in_(states),
        *event_conditions(filter_, tenant),
    ]


def _count(conn: sa.Connection, wanted: Wanted, now: datetime) -> tuple[int, list[str]]:
    return counted(conn, wanted.tenant, _fitting(wanted.tenant, wanted.filter, wanted.force, now))


def _next(conn: sa.Connection, row: sa.Row[Any], most: int) -> Sequence[Any]:
    where = _fitting(row.tenant_id, row.filter, row.force, row.created_at)
    time, event_id = events.c.received_at, events.c.event_id
    if row.after_time is not None:
        where.append(behind((time, event_id), (row.after_time, row.after_id), descending=False))
    query = sa.select(time, event_id).select_from(joined()).where(*where)
    return conn.execute(query.order_by(time, event_id).limit(most)).all()


def _of(tenant: str, replay_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return replays.c.tenant_id == tenant, replays.c.replay_id == replay_id


def _find(conn: sa.Connection, tenant: str, replay_id: str) -> sa.Row[Any] | None:
    return conn.execute(sa.select(replays).where(*_of(tenant, replay_id))).one_or_none()


def _load(conn: sa.Connection, tenant: str, replay_id: str) -> sa.Row[Any]:
    row = _find(conn, tenant, replay_id)
    if row is None:
        raise NotFound(f"tenants/{tenant}/replays/{replay_id}")
    return row


def replay_message(row: sa.Row[Any]) -> replay_pb2.Replay:
    """Return a replay as it is shown."""
    return replay_pb2.Replay(
        name=f"tenants/{row.tenant_id}/replays/{row.replay_id}",
        filter=row.filter,
        force=row.force,
        fetch_again=bool(row.fetch_again),
        rate_per_second=row.rate,
        state=_state(row),
        event_count=row.event_count,
        replayed_count=row.replayed_count,
        sample=row.sample,
        create_time=row.created_at,
        finish_time=row.finished_at,
        error=row.error or "",
    )


def _state(row: sa.Row[Any]) -> replay_pb2.ReplayState.ValueType:
    if row.finished_at is None:
        return replay_pb2.REPLAY_STATE_RUNNING
    return replay_pb2.REPLAY_STATE_FAILED if row.error else replay_pb2.REPLAY_STATE_DONE
