"""The fair claim: class by class, tenant by tenant in turns, one job a turn.

Tenants are found by a skip-scan of the index (class, shard, tenant, visible_at): a step per tenant, whatever
the number of jobs behind it, so a flood of one costs the others nothing. SQLite takes many steps in one statement
(a recursive CTE); Spanner has no such thing, and takes a statement a step. Which tenant was served last is kept
in `<jobs>_turns`; losing it would only change who is first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store import insert_if_absent
from trunkline_store.hot import Hot

from trunkline_jobs.leases import Ended
from trunkline_jobs.model import Job, JobState, QueueClass, Ran
from trunkline_jobs.rows import to_job, with_entry
from trunkline_jobs.table import through, turns_of
from trunkline_jobs.untold import untold_from

# Sorts after every id: the upper end of the first half of a round.
_LAST = "\U0010ffff"
_TENANTS_A_STEP = 32
# Where kinds are bounded, so many due jobs of a tenant are looked at: behind that many of a kind that may not begin,
# its others wait too.
_KINDS_LOOK = 100


@dataclass(frozen=True)
class Room:
    """The slots of the owner who claims, and those of them that a busy tenant is not given.

    The last `reserve` free slots go to realtime jobs of tenants with fewer than `quiet` such jobs under lease:
    however many jobs the others have, somebody who had nothing to do is served at once.
    """

    slots: int
    reserve: int
    quiet: int


NO_BOUNDS = Room(slots=0, reserve=0, quiet=0)


@dataclass(frozen=True)
class Load:
    """How much one claim may carry: `weigh` tells the bytes of jobs by id, given (tenant, job id) pairs.

    The first job is given whatever it weighs. What is left out is not leased.
    """

    most_bytes: int
    weigh: Callable[[Connection, Sequence[tuple[str, str]]], Mapping[str, int]]


@dataclass
class Tries:
    """When a job is given up that nobody reports on: its holders die with it, or hang, until the lease runs out.

    `most` tells how many runs a stage has. A job whose last run ended so is buried by the claim that finds it, and
    marked as untold. One transaction buries `most_buried` jobs at most, and none after `seconds` have passed beyond
    the first: a writer serves others too. The other jobs stay as they are for the next claim.
    """

    most: Callable[[str], int]
    most_buried: int = 100
    seconds: float = 0.1
    clock: Callable[[], float] = time.monotonic
    given_up: list[Ended] = field(default_factory=list)
    """Is told what was buried."""

    def __post_init__(self) -> None:
        self._until = self.clock() + self.seconds

    @property
    def spent(self) -> bool:
        """Whether this transaction is to bury no more."""
        return bool(self.given_up) and (len(self.given_up) >= self.most_buried or self.clock() >= self._until)


@dataclass(frozen=True)
class Asked:
    """One claim: who asks for how much, by which rules, when."""

    owner: str
    limit: int
    lease: timedelta
    classes: tuple[int, ...]
    caps: Mapping[int, int]
    now: datetime
    room: Room
    capped: set[str]
    """Is told the tenants that have a job that is due and were passed over for their cap."""
    load: Load | None = None
    tries: Tries | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    """How many jobs of a kind may be leased, where that is bounded."""


@dataclass(frozen=True)
class _Place:
    """One part of the index, and the claim that looks there."""

    queue_class: int
    shard: int
    asked: Asked

    def parameters(self, **more: Any) -> dict[str, Any]:
        """Return a statement's parameters: the place and what more it takes."""
        return {"class_": self.queue_class, "shard_": self.shard, **more}


@dataclass
class _Turn:
    """What one tenant may still get in this claim."""

    tenant: str
    jobs: deque[str]
    quiet: int
    """How many of them may come out of the reserve."""


class Claims:
    """Claims from one queue; its statements are built once."""

    def __init__(self, table: sa.Table, shards: int, *, recursive_queries: bool) -> None:
        """See Features for what the engine can."""
        self._table = table
        self._walk = self._strides if recursive_queries else self._steps
        self._turns = turns_of(table)
        self._shards = shards
        c = table.c
        queue_class: Any = sa.bindparam("class_")
        shard: Any = sa.bindparam("shard_")
        tenant: Any = sa.bindparam("tenant_")
        now: Any = sa.bindparam("now_", type_=c.visible_at.type)
        here = sa.and_(c.queue_class == queue_class, c.shard == shard)
        self._next_tenants = Hot(_skip_scan(table, here, now))
        self._next_tenant = _one_step(table, here)
        leases = sa.select(c.queue_class, c.group_key).where(c.tenant_id == tenant, c.lease_until > now)
        self._leases = Hot(through(leases, table, "leases"))
        candidates = (
            sa.select(c.job_id, c.group_key)
            .where(here, c.tenant_id == tenant, c.visible_at <= now)
            .order_by(c.visible_at, c.job_id)
            .limit(sa.bindparam("limit_"))
        )
        due = through(candidates, table, "queue")
        outside = due.where(
            sa.or_(c.group_key.is_(None), c.group_key.not_in(sa.bindparam("groups_", expanding=True)))
        )
        self._candidates = Hot(due)
        self._outside_groups = Hot(outside)
        # The index does not hold the kind: each of these looks at the job's row as well.
        self._candidates_and_kinds = Hot(due.add_columns(c.kind))
        self._outside_groups_and_kinds = Hot(outside.add_columns(c.kind))
        held = sa.select(sa.func.count().label("held")).where(
            c.lease_owner == sa.bindparam("owner_"), c.lease_until > now
        )
        self._held = Hot(through(held.select_from(table), table, "owners"))
        ids: Any = sa.bindparam("ids_", expanding=True)
        self._rows = Hot(sa.select(table).where(c.job_id.in_(ids)))
        self._lease = Hot(
            sa.update(table)
            .where(c.job_id.in_(ids))
            .values(
                state=JobState.LEASED.value,
                lease_owner=sa.bindparam("owner_"),
                lease_token=c.lease_token + 1,
                lease_until=sa.bindparam("until_", type_=c.lease_until.type),
                visible_at=sa.bindparam("until_", type_=c.lease_until.type),
                attempts=c.attempts + 1,
                stage_began_at=sa.func.coalesce(c.stage_began_at, now),
                updated_at=now,
            )
        )
        self._tell = (
            sa.update(table)
            .where(c.job_id == sa.bindparam("job_"))
            .values(history=sa.bindparam("history_", type_=c.history.type))
        )
        t = self._turns.c
        at = sa.and_(t.queue_class == queue_class, t.shard == shard)
        self._last_served = Hot(sa.select(t.tenant_id).where(at))
        self._serve = Hot(sa.update(self._turns).where(at).values(tenant_id=tenant))

    def claim(self, conn: Connection, asked: Asked) -> list[Job]:
        """Lease up to the limit; see Queue.claim."""
        chosen: list[str] = []
        limit = self._free(conn, asked)
        left = _Left(asked)
        for queue_class in asked.classes:
            for shard in range(self._shards):
                if len(chosen) < limit and not left.full:
                    place = _Place(int(queue_class), shard, asked)
                    chosen += self._choose(conn, place, limit - len(chosen), left)
        return self._take(conn, chosen, asked) if chosen else []

    def _free(self, conn: Connection, asked: Asked) -> int:
        """Return how many jobs the owner may be given."""
        if not asked.room.slots:
            return asked.limit
        held = self._held.all(conn, {"owner_": asked.owner, "now_": asked.now})[0]["held"]
        return min(asked.limit, asked.room.slots - int(held))

    def _choose(self, conn: Connection, place: _Place, limit: int, left: _Left) -> list[str]:
        """Choose jobs, in turns; remember whose turn was the last."""
        turn_of = self._last_served.first(conn, place.parameters())
        last = None if turn_of is None else str(turn_of["tenant_id"])
        common = limit - place.asked.room.reserve  # what is not reserved
        turns: list[_Turn] = []
        for tenant in self._tenants(conn, place, last or ""):
            turn = self._turn_of(conn, place, tenant, limit, common, left)
            if turn.jobs:
                turns.append(turn)
            if len(turns) == limit:
                break
        chosen: list[tuple[str, str]] = []  # tenant and job
        while turns and len(chosen) < limit:
            for turn in turns[: limit - len(chosen)]:
                if len(chosen) < common or turn.quiet > 0:
                    job_id = turn.jobs.popleft()
                    if left.takes(job_id):
                        chosen.append((turn.tenant, job_id))
                        turn.quiet -= 1
            turns = [turn for turn in turns if turn.jobs and (len(chosen) < common or turn.quiet > 0)]
        chosen = left.fitting(conn, chosen)
        if chosen and chosen[-1][0] != last:
            self._remember(conn, place, chosen[-1][0], first=last is None)
        return [job_id for _, job_id in chosen]

    def _tenants(self, conn: Connection, place: _Place, last: str) -> Iterator[str]:
        """Yield tenants with a job that is due: those after the last served, then round from the start."""
        for after, upto in ((last, _LAST), ("", last)):
            yield from self._walk(conn, place, after, upto)

    def _steps(self, conn: Connection, place: _Place, after: str, upto: str) -> Iterator[str]:
        """Yield the tenants after one up to another that have a job that is due, a statement each."""
        while upto:
            found = conn.execute(self._next_tenant, place.parameters(after_=after, upto_=upto)).first()
            if found is None:
                return
            after, earliest = found
            if earliest <= place.asked.now:
                yield after

    def _strides(self, conn: Connection, place: _Place, after: str, upto: str) -> Iterator[str]:
        """Yield the same, many to a statement."""
        while upto:
            bounds = {"after_": after, "upto_": upto, "limit_": _TENANTS_A_STEP}
            rows = self._next_tenants.all(conn, place.parameters(now_=place.asked.now, **bounds))
            found: list[str] = [row["tenant_id"] for row in rows]
            yield from found
            if len(found) < _TENANTS_A_STEP:
                return
            after = found[-1]

    def _turn_of(
        self, conn: Connection, place: _Place, tenant: str, limit: int, common: int, left: _Left
    ) -> _Turn:
        """Return what a tenant could be given: under its cap, no two of a group, none of a running one."""
        now = place.asked.now
        leases = self._leases.all(conn, {"tenant_": tenant, "now_": now})
        live = sum(1 for lease in leases if lease["queue_class"] == place.queue_class)
        quiet = place.asked.room.quiet - live if place.queue_class == QueueClass.REALTIME else 0
        limit = min(limit, max(common, quiet))
        cap = place.asked.caps.get(place.queue_class)
        if cap is not None:
            limit = min(limit, cap - live)
            if live >= cap:
                place.asked.capped.add(tenant)
        if limit <= 0:
            return _Turn(tenant, deque(), 0)
        running = {lease["group_key"] for lease in leases if lease["group_key"] is not None}
        where = place.parameters(tenant_=tenant, now_=now, limit_=limit)
        if place.asked.kinds:
            found: Sequence[Mapping[str, Any]] = left.of_kinds(self._of_kinds(conn, where, running), limit)
        elif running:
            found = self._outside_groups.all(conn, {**where, "groups_": sorted(running)})
        else:
            found = self._candidates.all(conn, where)
        jobs: deque[str] = deque()
        for row in found:
            job_id, group = row["job_id"], row["group_key"]
            if group is None or group not in running:
                jobs.append(job_id)
                running.add(group)
        return _Turn(tenant, jobs, quiet)

    def _of_kinds(
        self, conn: Connection, where: dict[str, Any], running: set[str]
    ) -> Sequence[Mapping[str, Any]]:
        """Return a tenant's candidates with their kinds, more of them than are asked for."""
        where = {**where, "limit_": max(where["limit_"], _KINDS_LOOK)}
        if running:
            return self._outside_groups_and_kinds.all(conn, {**where, "groups_": sorted(running)})
        return self._candidates_and_kinds.all(conn, where)

    def _remember(self, conn: Connection, place: _Place, served: str, *, first: bool) -> None:
        if first:
            values = {"queue_class": place.queue_class, "shard": place.shard, "tenant_id": served}
            insert_if_absent(conn, self._turns, values, key=["queue_class", "shard"])
        else:
            self._serve.run(conn, place.parameters(tenant_=served))

    def _take(self, conn: Connection, chosen: list[str], asked: Asked) -> list[Job]:
        now, until = asked.now, asked.now + asked.lease
        rows = {row["job_id"]: row for row in self._rows.all(conn, {"ids_": chosen})}
        if asked.tries is not None:
            worn_out = {job_id for job_id in chosen if _is_worn_out(rows[job_id], asked.tries)}
            for job_id in chosen:
                if job_id in worn_out and not asked.tries.spent:
                    asked.tries.given_up.append(self._give_up(conn, rows[job_id], now))
            chosen = [job_id for job_id in chosen if job_id not in worn_out]
            if not chosen:
                return []
        self._lease.run(conn, {"ids_": chosen, "owner_": asked.owner, "until_": until, "now_": now})
        jobs = []
        for job_id in chosen:
            row = rows[job_id]
            if row["state"] == JobState.LEASED:  # its holder vanished: say so in its story
                # When that run began is known of a stage's first one only; it had ended when its lease did.
                began = row["stage_began_at"] if row["attempts"] == 1 else None
                row["history"] = with_entry(row, now, "expired", ran=Ran(began, row["lease_until"]))
                conn.execute(self._tell, {"job_": job_id, "history_": row["history"]})
            row |= {
                "state": JobState.LEASED,
                "lease_owner": asked.owner,
                "lease_token": row["lease_token"] + 1,
                "lease_until": until,
                "visible_at": until,
                "attempts": row["attempts"] + 1,
                "stage_began_at": row["stage_began_at"] or now,
                "updated_at": now,
            }
            jobs.append(to_job(row))
        return jobs

    def _give_up(self, conn: Connection, row: dict[str, Any], now: datetime) -> Ended:
        """Make a dead letter of a job whose last holder vanished."""
        attempts = row["attempts"]
        error = {
            "message": f"given up after {attempts} attempts: the worker was lost with it, or told nothing of it"
        }
        row["history"] = with_entry(row, now, "expired")
        values = {
            "state": JobState.DEAD.value,
            "visible_at": None,
            "lease_owner": None,
            "lease_until": None,
            "lease_token": row["lease_token"] + 1,
            "buried_at": now,
            "last_error": error,
            "history": with_entry(row, now, "buried", error),
            "updated_at": now,
            **untold_from(now),
        }
        job = self._table.c.job_id == row["job_id"]
        conn.execute(sa.update(self._table).where(job).values(**values))
        return Ended(row["tenant_id"], row["kind"], row["subject"], row["checkpoint"], now)


class _Left:
    """What one claim may still carry."""

    def __init__(self, asked: Asked) -> None:
        self._load = load = asked.load
        self._bytes = load.most_bytes if load else 0
        self._any = False
        self.full = False
        self._kinds = dict(asked.kinds)
        self._kind_of: dict[str, str] = {}  # of candidates, where their kind is bounded

    def of_kinds(self, found: Sequence[Mapping[str, Any]], limit: int) -> list[Mapping[str, Any]]:
        """Return the first candidates, up to the limit, of kinds that may begin as often."""
        free, some = dict(self._kinds), []
        for row in found:
            kind = row["kind"]
            if kind in free:
                if free[kind] <= 0:
                    continue
                free[kind] -= 1
                self._kind_of[row["job_id"]] = kind
            some.append(row)
            if len(some) == limit:
                break
        return some

    def takes(self, job_id: str) -> bool:
        """Say whether a candidate may still be chosen, and count it as that."""
        kind = self._kind_of.get(job_id)
        if kind is None:
            return True
        self._kinds[kind] -= 1
        return self._kinds[kind] >= 0

    def fitting(self, conn: Connection, chosen: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the first of them that fit; once one did not, nothing does."""
        if self._load is None or not chosen or (len(chosen) == 1 and not self._any):
            self._any |= bool(chosen)
            return chosen
        weights = self._load.weigh(conn, chosen)
        for place, (_, job_id) in enumerate(chosen):
            self._bytes -= weights.get(job_id, 0)
            if self._bytes < 0 and self._any:
                self.full = True
                return chosen[:place]
            self._any = True
        return chosen


def _is_worn_out(row: Mapping[str, Any], tries: Tries) -> bool:
    return bool(row["state"] == JobState.LEASED and row["attempts"] >= tries.most(row["stage"]))


def _one_step(table: sa.Table, here: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Build the step to the index's next tenant, with the moment of its job that is due first."""
    after, upto = sa.bindparam("after_", type_=sa.String), sa.bindparam("upto_", type_=sa.String)
    c = table.c
    step = (
        sa.select(c.tenant_id, c.visible_at)
        .where(here, c.visible_at.is_not(None), c.tenant_id > after, c.tenant_id <= upto)
        .order_by(c.tenant_id, c.visible_at)
        .limit(1)
    )
    return through(step, table, "queue")


def _skip_scan(table: sa.Table, here: sa.ColumnElement[bool], now: Any) -> sa.Select[str]:
    """Build the walk: from one tenant of the index to the next, keeping those with a job that is due."""
    after, upto = sa.bindparam("after_", type_=sa.String), sa.bindparam("upto_", type_=sa.String)
    jobs = table.alias("entry")

    def first_after(bound: Any) -> Any:
        local = sa.and_(
            jobs.c.queue_class == sa.bindparam("class_"),
            jobs.c.shard == sa.bindparam("shard_"),
            jobs.c.visible_at.is_not(None),
            jobs.c.tenant_id > bound,
            jobs.c.tenant_id <= upto,
        )
        return sa.select(sa.func.min(jobs.c.tenant_id)).where(local)

    walk = sa.select(first_after(after).scalar_subquery().label("tenant_id")).cte("walk", recursive=True)
    step = first_after(walk.c.tenant_id).correlate(walk).scalar_subquery()
    walk = walk.union_all(sa.select(step).select_from(walk).where(walk.c.tenant_id.is_not(None)))
    due = sa.exists().where(here, table.c.tenant_id == walk.c.tenant_id, table.c.visible_at <= now)
    return (
        sa.select(walk.c.tenant_id)
        .where(walk.c.tenant_id.is_not(None), due.correlate(walk))
        .limit(sa.bindparam("limit_"))
    )
