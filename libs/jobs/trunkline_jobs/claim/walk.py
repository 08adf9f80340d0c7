"""The walk over the tenants of one part of the index, and the memory of whose turn was the last.

SQLite takes many steps in one statement (a recursive CTE); Spanner has no such thing, and takes a statement a step.
Which tenant was served last is kept in `<jobs>_turns`; losing it would only change who is first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store import insert_if_absent
from trunkline_store.hot import Hot

from trunkline_jobs.table import through, turns_of

# Sorts after every id: the upper end of the first half of a round.
_LAST = "\U0010ffff"
_TENANTS_A_STEP = 32


@dataclass(frozen=True)
class IndexPart:
    """One part of the index, and the moment by which its jobs are due."""

    queue_class: int
    shard: int
    now: datetime

    def parameters(self, **more: Any) -> dict[str, Any]:
        """Return a statement's parameters: the part and what more it takes."""
        return {"class_": self.queue_class, "shard_": self.shard, **more}


def at(table: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition that a row of a table is of the part that parameters() names."""
    return sa.and_(table.c.queue_class == sa.bindparam("class_"), table.c.shard == sa.bindparam("shard_"))


class Walk:
    """The walk over the tenants of one queue."""

    def __init__(self, table: sa.Table, *, recursive_queries: bool) -> None:
        """See Features for what the engine can."""
        self._on = self._strides if recursive_queries else self._steps
        self._turns = turns_of(table)
        now: Any = sa.bindparam("now_", type_=table.c.visible_at.type)
        self._next_tenants = Hot(_skip_scan(table, at(table), now))
        self._next_tenant = _one_step(table, at(table))
        tenant = self._turns.c.tenant_id
        self._last_served = Hot(sa.select(tenant).where(at(self._turns)))
        served: Any = sa.bindparam("tenant_")
        self._serve = Hot(sa.update(self._turns).where(at(self._turns)).values(tenant_id=served))

    def last_served(self, conn: Connection, part: IndexPart) -> str | None:
        """Return the tenant whose turn was the last."""
        turn_of = self._last_served.first(conn, part.parameters())
        return None if turn_of is None else str(turn_of["tenant_id"])

    def serve(self, conn: Connection, part: IndexPart, served: str, *, first: bool) -> None:
        """Remember whose turn was the last; `first` where nobody's was before."""
        if first:
            values = {"queue_class": part.queue_class, "shard": part.shard, "tenant_id": served}
            insert_if_absent(conn, self._turns, values, key=["queue_class", "shard"])
        else:
            self._serve.run(conn, part.parameters(tenant_=served))

    def any_due(self, conn: Connection, part: IndexPart) -> bool:
        """Say whether a job is due."""
        return next(self.tenants(conn, part, ""), None) is not None

    def tenants(self, conn: Connection, part: IndexPart, last: str) -> Iterator[str]:
        """Yield tenants with a job that is due: those after the last served, then round from the start."""
        for after, upto in ((last, _LAST), ("", last)):
            yield from self._on(conn, part, after, upto)

    def _steps(self, conn: Connection, part: IndexPart, after: str, upto: str) -> Iterator[str]:
        """Yield the tenants after one up to another that have a job that is due, a statement each."""
        while upto:
            found = conn.execute(self._next_tenant, part.parameters(after_=after, upto_=upto)).first()
            if found is None:
                return
            after, earliest = found
            if earliest <= part.now:
                yield after

    def _strides(self, conn: Connection, part: IndexPart, after: str, upto: str) -> Iterator[str]:
        """Yield the same, many to a statement."""
        while upto:
            bounds = {"after_": after, "upto_": upto, "limit_": _TENANTS_A_STEP}
            rows = self._next_tenants.all(conn, part.parameters(now_=part.now, **bounds))
            found: list[str] = [row["tenant_id"] for row in rows]
            yield from found
            if len(found) < _TENANTS_A_STEP:
                return
            after = found[-1]


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
