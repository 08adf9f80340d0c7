"""Claims from one queue: what the owner may be given, chosen part by part, then leased."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store.hot import Hot
from trunkline_work import JobKey

from trunkline_jobs.claim.allowance import Allowance
from trunkline_jobs.claim.asked import Asked
from trunkline_jobs.claim.grants import Grants
from trunkline_jobs.claim.turns import TenantTurns
from trunkline_jobs.claim.walk import IndexPart, Walk
from trunkline_jobs.model import Job
from trunkline_jobs.table import through


class Claims:
    """Claims from one queue; its statements are built once."""

    def __init__(self, table: sa.Table, shards: int, *, recursive_queries: bool) -> None:
        """See Features for what the engine can."""
        self._shards = shards
        self._walk = Walk(table, recursive_queries=recursive_queries)
        self._turns = TenantTurns(table, self._walk)
        self._grants = Grants(table)
        c = table.c
        now: Any = sa.bindparam("now_", type_=c.lease_until.type)
        held = sa.select(sa.func.count().label("held")).where(
            c.lease_owner == sa.bindparam("owner_"), c.lease_until > now
        )
        self._held = Hot(through(held.select_from(table), table, "owners"))

    def claim(self, conn: Connection, asked: Asked) -> list[Job]:
        """Lease up to the limit; see Queue.claim."""
        chosen: list[JobKey] = []
        limit = self._free(conn, asked)
        left = Allowance(asked)
        for queue_class in asked.classes:
            for shard in range(self._shards):
                if len(chosen) < limit and not left.full:
                    part = IndexPart(int(queue_class), shard, asked.now)
                    chosen += self._turns.choose(conn, part, asked, limit - len(chosen), left)
        return self._grants.take(conn, chosen, asked) if chosen else []

    def any_due(self, conn: Connection, classes: Sequence[int], now: datetime) -> bool:
        """See Queue.any_due."""
        parts = (IndexPart(int(one), shard, now) for one in classes for shard in range(self._shards))
        return any(self._walk.any_due(conn, part) for part in parts)

    def _free(self, conn: Connection, asked: Asked) -> int:
        """Return how many jobs the owner may be given."""
        if not asked.room.slots:
            return asked.limit
        held = self._held.all(conn, {"owner_": asked.owner, "now_": asked.now})[0]["held"]
        return min(asked.limit, asked.room.slots - int(held))
