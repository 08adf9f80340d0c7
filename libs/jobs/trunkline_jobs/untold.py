"""Jobs that ended without a worker to tell of it: the marks that say so, and when to tell next.

A mark is two columns of the job's own row, written in the transaction that ends the job, so a process that dies right
afterwards loses nothing: whoever tells reads the marks from the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_jobs.model import JobState
from trunkline_jobs.table import through

TOLD: Mapping[str, Any] = {"tell_at": None, "tell_tries": None}
"""The columns of a job of which nothing is to be told."""


def untold_from(when: datetime) -> dict[str, Any]:
    """Return the columns of a job that is to be told of from that moment on."""
    return {"tell_at": when, "tell_tries": 0}


@dataclass(frozen=True)
class Untold:
    """A job that ended, and what there is to tell of it."""

    job_id: str
    tenant_id: str
    subject: str
    checkpoint: Mapping[str, Any]
    state: JobState
    """DEAD or CANCELLED."""
    lease_token: int
    """Of its last lease, or of the claim that gave it up."""
    error: Mapping[str, Any]
    """Why it is dead; empty when it was cancelled before anything failed."""
    tries: int
    """How often telling failed."""


class Tellings:
    """The marks of one queue."""

    def __init__(self, table: sa.Table) -> None:
        self._table = table
        c = table.c
        columns = (
            c.job_id, c.tenant_id, c.subject, c.checkpoint, c.state, c.lease_token, c.last_error, c.tell_tries,
        )  # fmt: skip
        self._due = through(sa.select(*columns).where(c.tell_at.is_not(None)), table, "untold")

    def due(self, conn: Connection, now: datetime, limit: int) -> list[Untold]:
        """Return those that are due, the longest due first."""
        c = self._table.c
        query = self._due.where(c.tell_at <= now).order_by(c.tell_at, c.job_id).limit(limit)
        return [
            Untold(
                row.job_id,
                row.tenant_id,
                row.subject,
                row.checkpoint,
                JobState(row.state),
                row.lease_token,
                row.last_error or {},
                row.tell_tries or 0,
            )
            for row in conn.execute(query)
        ]

    def clear(self, conn: Connection, job: Untold) -> None:
        """Take the mark away."""
        self._write(conn, job, TOLD)

    def postpone(self, conn: Connection, job: Untold, when: datetime) -> None:
        """Have it told of at that moment, behind those that are due earlier."""
        self._write(conn, job, {"tell_at": when, "tell_tries": job.tries + 1})

    def _write(self, conn: Connection, job: Untold, values: Mapping[str, Any]) -> None:
        c = self._table.c
        # The token and state: a mark of a later end is another one.
        mine = (c.tenant_id == job.tenant_id, c.job_id == job.job_id, c.lease_token == job.lease_token)
        still = (c.state == job.state.value, c.tell_at.is_not(None))
        conn.execute(sa.update(self._table).where(*mine, *still).values(**values))
