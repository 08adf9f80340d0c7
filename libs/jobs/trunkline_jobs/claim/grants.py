"""The leases that a claim grants on the jobs it chose; those whose holders died with them too often are buried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store.hot import Hot
from trunkline_work import JobKey

from trunkline_jobs.claim.asked import Asked, Tries
from trunkline_jobs.leases import Ended
from trunkline_jobs.model import Job, JobState, Ran
from trunkline_jobs.rows import to_job, with_entry
from trunkline_jobs.table import one_of, parameters_of
from trunkline_jobs.untold import untold_from

# So many jobs a statement names: a condition on each nests, and SQLite bounds how deep.
_AT_ONCE = 100


class Grants:
    """Leases jobs of one queue."""

    def __init__(self, table: sa.Table) -> None:
        self._table = table
        c = table.c
        now: Any = sa.bindparam("now_", type_=c.visible_at.type)
        self._granted = {
            "state": JobState.LEASED.value,
            "lease_owner": sa.bindparam("owner_"),
            "lease_token": c.lease_token + 1,
            "lease_until": sa.bindparam("until_", type_=c.lease_until.type),
            "visible_at": sa.bindparam("until_", type_=c.lease_until.type),
            "attempts": c.attempts + 1,
            "stage_began_at": sa.func.coalesce(c.stage_began_at, now),
            "updated_at": now,
        }
        self._rows: dict[int, Hot] = {}  # here and below, by the number of jobs
        self._grants: dict[int, Hot] = {}
        self._tell = (
            sa.update(table)
            .where(one_of(table, 1))
            .values(history=sa.bindparam("history_", type_=c.history.type))
        )

    def take(self, conn: Connection, chosen: list[JobKey], asked: Asked) -> list[Job]:
        """Lease the jobs, in their order; those that are worn out are buried, and left out."""
        now, until = asked.now, asked.now + asked.lease
        rows = self._read(conn, chosen)
        if asked.tries is not None:
            worn_out = {key for key in chosen if _is_worn_out(rows[key], asked.tries)}
            for key in chosen:
                if key in worn_out and not asked.tries.spent:
                    asked.tries.given_up.append(self._give_up(conn, rows[key], now))
            chosen = [key for key in chosen if key not in worn_out]
            if not chosen:
                return []
        self._grant(conn, chosen, {"owner_": asked.owner, "until_": until, "now_": now})
        jobs = []
        for key in chosen:
            row = rows[key]
            if row["state"] == JobState.LEASED:  # its holder vanished: say so in its story
                # When that run began is known of a stage's first one only; it had ended when its lease did.
                began = row["stage_began_at"] if row["attempts"] == 1 else None
                row["history"] = with_entry(row, now, "expired", ran=Ran(began, row["lease_until"]))
                conn.execute(self._tell, {**parameters_of([key]), "history_": row["history"]})
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

    def _read(self, conn: Connection, keys: Sequence[JobKey]) -> dict[JobKey, dict[str, Any]]:
        rows = {}
        for some in _pieces(keys):
            many = len(some)
            if many not in self._rows:
                self._rows[many] = Hot(sa.select(self._table).where(one_of(self._table, many)))
            for row in self._rows[many].all(conn, parameters_of(some)):
                rows[JobKey(row["tenant_id"], row["job_id"])] = row
        return rows

    def _grant(self, conn: Connection, keys: Sequence[JobKey], given: Mapping[str, Any]) -> None:
        for some in _pieces(keys):
            many = len(some)
            if many not in self._grants:
                granted = sa.update(self._table).where(one_of(self._table, many)).values(self._granted)
                self._grants[many] = Hot(granted)
            self._grants[many].run(conn, {**parameters_of(some), **given})

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
        c = self._table.c
        mine = (c.tenant_id == row["tenant_id"], c.job_id == row["job_id"])
        conn.execute(sa.update(self._table).where(*mine).values(**values))
        return Ended(row["tenant_id"], row["kind"], row["subject"], row["checkpoint"], now)


def _is_worn_out(row: Mapping[str, Any], tries: Tries) -> bool:
    return bool(row["state"] == JobState.LEASED and row["attempts"] >= tries.most(row["stage"]))


def _pieces(keys: Sequence[JobKey]) -> Iterator[Sequence[JobKey]]:
    for start in range(0, len(keys), _AT_ONCE):
        yield keys[start : start + _AT_ONCE]
