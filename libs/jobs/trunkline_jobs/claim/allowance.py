"""What one claim may still carry: by bytes, and by how many jobs of a kind may begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection
from trunkline_work import JobKey

from trunkline_jobs.claim.asked import Asked


class Allowance:
    """What one claim may still carry."""

    def __init__(self, asked: Asked) -> None:
        self._load = load = asked.load
        self._bytes = load.most_bytes if load else 0
        self._any = False
        self.full = False
        """Whether a job did not fit."""
        self._kinds = dict(asked.kinds)
        self._kind_of: dict[JobKey, str] = {}  # of candidates, where their kind is bounded

    def of_kinds(
        self, tenant: str, found: Sequence[Mapping[str, Any]], limit: int
    ) -> list[Mapping[str, Any]]:
        """Return the first of a tenant's candidates, up to the limit, of kinds that may begin as often."""
        free, some = dict(self._kinds), []
        for row in found:
            kind = row["kind"]
            if kind in free:
                if free[kind] <= 0:
                    continue
                free[kind] -= 1
                self._kind_of[JobKey(tenant, row["job_id"])] = kind
            some.append(row)
            if len(some) == limit:
                break
        return some

    def takes(self, key: JobKey) -> bool:
        """Say whether a candidate may still be chosen, and count it as that."""
        kind = self._kind_of.get(key)
        if kind is None:
            return True
        self._kinds[kind] -= 1
        return self._kinds[kind] >= 0

    def fitting(self, conn: Connection, chosen: list[JobKey]) -> list[JobKey]:
        """Return the first of them that fit; once one did not, nothing does."""
        if self._load is None or not chosen or (len(chosen) == 1 and not self._any):
            self._any |= bool(chosen)
            return chosen
        weights = self._load.weigh(conn, chosen)
        for place, key in enumerate(chosen):
            self._bytes -= weights.get(key, 0)
            if self._bytes < 0 and self._any:
                self.full = True
                return chosen[:place]
            self._any = True
        return chosen
