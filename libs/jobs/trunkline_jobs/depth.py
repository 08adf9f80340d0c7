"""How much waits in a queue, by class: what an autoscaler and an alert look at."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store.hot import Hot

from trunkline_jobs.model import QueueClass
from trunkline_jobs.table import through

MOST = 20_000
"""How many jobs of a class and shard are looked at. Above that, the figures are the least that they can be."""


class Depth(NamedTuple):
    """How many jobs are due that nobody works on, and for how many seconds the oldest of them has been."""

    jobs: int = 0
    oldest_seconds: float = 0.0


class Depths:
    """Looks at one queue; a look costs as much as it finds, and is bounded."""

    def __init__(self, table: sa.Table, *, shards: int = 1, most: int = MOST) -> None:
        """`shards` is the queue's; `most` as in MOST."""
        self._shards = shards
        c = table.c
        live = (
            through(sa.select(c.visible_at), table, "queue")
            .where(
                c.queue_class == sa.bindparam("class_"),
                c.shard == sa.bindparam("shard_"),
                c.visible_at.is_not(None),
            )
            .limit(most)
            .subquery()
        )
        # A job that is leased becomes visible at the lease's end, one that waits for a recording later.
        due = live.c.visible_at <= sa.bindparam("now_", type_=c.visible_at.type)
        oldest = sa.func.min(live.c.visible_at, type_=c.visible_at.type).label("oldest")
        columns: list[Any] = [sa.func.count().label("jobs"), oldest]
        self._look = Hot(sa.select(*columns).where(due))
        buried = (
            through(sa.select(c.buried_at), table, "dead")
            .where(c.buried_at.is_not(None))
            .limit(most)
            .subquery()
        )
        self._dead = Hot(sa.select(sa.func.count().label("jobs")).select_from(buried))

    def dead(self, conn: Connection) -> int:
        """Return how many dead letters there are."""
        row = self._dead.first(conn, {})
        return int(row["jobs"]) if row is not None else 0

    def of(self, conn: Connection, now: datetime) -> dict[QueueClass, Depth]:
        """Return the depth of each class. `now` is the queue's time (Queue.now)."""
        found = {}
        for queue_class in QueueClass:
            jobs, oldest = 0, 0.0
            for shard in range(self._shards):
                asked = {"class_": int(queue_class), "shard_": shard, "now_": now}
                row = self._look.first(conn, asked)
                if row is not None and row["jobs"]:
                    jobs += row["jobs"]
                    oldest = max(oldest, (now - row["oldest"]).total_seconds())
            found[queue_class] = Depth(jobs, oldest)
        return found
