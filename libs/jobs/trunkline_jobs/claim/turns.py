"""Which jobs of one part of the index a claim takes: the tenants in turns, one job a turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store.hot import Hot
from trunkline_work import JobKey

from trunkline_jobs.claim.allowance import Allowance
from trunkline_jobs.claim.asked import Asked
from trunkline_jobs.claim.walk import IndexPart, Walk, at
from trunkline_jobs.model import QueueClass
from trunkline_jobs.table import through

# Where kinds are bounded, so many due jobs of a tenant are looked at: behind that many of a kind that may not begin,
# its others wait too.
_KINDS_LOOK = 100


@dataclass
class _TenantTurn:
    """What one tenant may still get in this claim."""

    jobs: deque[JobKey]
    quiet: int
    """How many of them may come out of the reserve."""


class TenantTurns:
    """Chooses jobs of one queue."""

    def __init__(self, table: sa.Table, walk: Walk) -> None:
        self._walk = walk
        c = table.c
        tenant: Any = sa.bindparam("tenant_")
        now: Any = sa.bindparam("now_", type_=c.visible_at.type)
        leases = sa.select(c.queue_class, c.group_key).where(c.tenant_id == tenant, c.lease_until > now)
        self._leases = Hot(through(leases, table, "leases"))
        candidates = (
            sa.select(c.job_id, c.group_key)
            .where(at(table), c.tenant_id == tenant, c.visible_at <= now)
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

    def choose(
        self, conn: Connection, part: IndexPart, asked: Asked, limit: int, left: Allowance
    ) -> list[JobKey]:
        """Choose jobs, in turns; remember whose turn was the last."""
        if not self._walk.any_due(conn, part):  # most classes are empty, and most claims look at all of them
            return []
        last = self._walk.last_served(conn, part)
        common = limit - asked.room.reserve  # what is not reserved
        turns: list[_TenantTurn] = []
        for tenant in self._walk.tenants(conn, part, last or ""):
            turn = self._turn_of(conn, part, asked, tenant, limit, common, left)
            if turn.jobs:
                turns.append(turn)
            if len(turns) == limit:
                break
        chosen: list[JobKey] = []
        while turns and len(chosen) < limit:
            for turn in turns[: limit - len(chosen)]:
                if len(chosen) < common or turn.quiet > 0:
                    key = turn.jobs.popleft()
                    if left.takes(key):
                        chosen.append(key)
                        turn.quiet -= 1
            turns = [turn for turn in turns if turn.jobs and (len(chosen) < common or turn.quiet > 0)]
        chosen = left.fitting(conn, chosen)
        if chosen and chosen[-1].tenant != last:
            self._walk.serve(conn, part, chosen[-1].tenant, first=last is None)
        return chosen

    def _turn_of(
        self,
        conn: Connection,
        part: IndexPart,
        asked: Asked,
        tenant: str,
        limit: int,
        common: int,
        left: Allowance,
    ) -> _TenantTurn:
        """Return what a tenant could be given: under its cap, no two of a group, none of a running one."""
        now = part.now
        leases = self._leases.all(conn, {"tenant_": tenant, "now_": now})
        live = sum(1 for lease in leases if lease["queue_class"] == part.queue_class)
        quiet = asked.room.quiet - live if part.queue_class == QueueClass.REALTIME else 0
        limit = min(limit, max(common, quiet))
        cap = asked.caps.get(part.queue_class)
        if cap is not None:
            limit = min(limit, cap - live)
            if live >= cap:
                asked.capped.add(tenant)
        if limit <= 0:
            return _TenantTurn(deque(), 0)
        running = {lease["group_key"] for lease in leases if lease["group_key"] is not None}
        where = part.parameters(tenant_=tenant, now_=now, limit_=limit)
        if asked.kinds:
            found: Sequence[Mapping[str, Any]] = left.of_kinds(
                tenant, self._of_kinds(conn, where, running), limit
            )
        elif running:
            found = self._outside_groups.all(conn, {**where, "groups_": sorted(running)})
        else:
            found = self._candidates.all(conn, where)
        jobs: deque[JobKey] = deque()
        for row in found:
            job_id, group = row["job_id"], row["group_key"]
            if group is None or group not in running:
                jobs.append(JobKey(tenant, job_id))
                running.add(group)
        return _TenantTurn(jobs, quiet)

    def _of_kinds(
        self, conn: Connection, where: dict[str, Any], running: set[str]
    ) -> Sequence[Mapping[str, Any]]:
        """Return a tenant's candidates with their kinds, more of them than are asked for."""
        where = {**where, "limit_": max(where["limit_"], _KINDS_LOOK)}
        if running:
            return self._outside_groups_and_kinds.all(conn, {**where, "groups_": sorted(running)})
        return self._candidates_and_kinds.all(conn, where)
