"""What the holder of a lease may do; every write compares the fencing token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store.hot import Hot

from trunkline_jobs.model import NOT_TOLD, JobState, Lease, LeaseLost, Ran
from trunkline_jobs.rows import with_entry
from trunkline_jobs.table import through
from trunkline_jobs.untold import untold_from


@dataclass(frozen=True)
class Held:
    """What a holder shows, and the moment of the write."""

    lease: Lease
    now: datetime
    made: Mapping[str, Any] | None = None
    """Resource names that the run made, by stage: merged into the checkpoint."""
    ran: Ran = NOT_TOLD
    """When the run began and ended, and what it went through, for the history."""


@dataclass(frozen=True)
class Ended:
    """What a job was about, once a run of it has ended."""

    tenant_id: str
    kind: str
    subject: str
    checkpoint: Mapping[str, Any]
    at: datetime


_FREED: dict[str, Any] = {"lease_owner": None, "lease_until": None}


class Leases:
    """Writes to leased jobs of one queue.

    A lease that ran out and was not claimed again still holds: its token is the latest, nobody else began. It
    cannot be renewed, though, once another job of its group has begun.
    """

    def __init__(self, table: sa.Table) -> None:
        self._table = table
        c = table.c
        self._held = sa.and_(
            c.tenant_id == sa.bindparam("tenant_"),
            c.job_id == sa.bindparam("job_"),
            c.lease_token == sa.bindparam("token_"),
            c.state == JobState.LEASED.value,
        )
        self._select = Hot(
            sa.select(
                c.tenant_id, c.kind, c.subject, c.stage, c.attempts, c.lease_owner, c.history, c.checkpoint
            ).where(self._held)
        )
        now: Any = sa.bindparam("now_", type_=c.lease_until.type)
        until: Any = sa.bindparam("until_", type_=c.lease_until.type)
        others = table.alias("others")
        another = sa.select(others.c.job_id).where(
            others.c.tenant_id == c.tenant_id,
            others.c.lease_until > now,
            others.c.group_key == c.group_key,
            others.c.job_id != c.job_id,
        )
        self._renew = Hot(
            sa.update(table)
            .where(self._held, sa.or_(c.lease_until > now, ~another.correlate(table).exists()))
            .values(lease_until=until, visible_at=until, updated_at=now)
        )
        self._updates: dict[tuple[str, ...], Hot] = {}  # by the columns that they set
        self._remove = Hot(sa.delete(table).where(self._held))
        of_owner = sa.select(
            c.tenant_id, c.job_id, c.lease_token, c.stage, c.attempts, c.lease_owner, c.history
        ).where(c.lease_owner == sa.bindparam("owner_"))
        self._of_owner = through(of_owner, table, "owners")
        # Looks at every job under lease, which are as many as the workers have slots.
        of_id = sa.select(c.tenant_id).where(
            c.lease_owner > "", c.job_id == sa.bindparam("job_"), c.lease_token == sa.bindparam("token_")
        )
        self._of_id = through(of_id, table, "owners")

    def by_id(self, conn: Connection, job_id: str, token: int) -> Lease:
        """Return the lease of a holder who does not name the tenant."""
        tenants = conn.execute(self._of_id, {"job_": job_id, "token_": token}).scalars().all()
        if len(tenants) != 1:  # of two tenants' jobs nobody knows whose is meant
            raise _lost(job_id, token)
        return Lease(tenants[0], job_id, token)

    def renew(self, conn: Connection, held: Held, until: datetime) -> None:
        """Move the lease's end."""
        given = {**_shown(held.lease), "now_": held.now, "until_": until}
        if self._renew.run(conn, given) != 1:
            raise _lost(held.lease.job_id, held.lease.token)

    def advance(self, conn: Connection, held: Held, stage: str) -> Ended:
        """Enter the next stage; the run that goes on is that stage's first."""
        values = {
            "stage": stage,
            "attempts": 1,
            "stage_began_at": held.now,
            "last_error": None,
        }
        return self._end_run(conn, held, values, "advanced")

    def complete(self, conn: Connection, held: Held) -> Ended:
        """End well."""
        values = {
            "state": JobState.DONE.value,
            "visible_at": None,
            "last_error": None,
        }
        return self._end_run(conn, held, values | _FREED, "done")

    def remove(self, conn: Connection, held: Held) -> None:
        """End, and keep no row."""
        if self._remove.run(conn, _shown(held.lease)) != 1:
            raise _lost(held.lease.job_id, held.lease.token)

    def reschedule(
        self,
        conn: Connection,
        held: Held,
        delay: timedelta,
        spend_attempt: bool,
        error: Mapping[str, Any] | None,
        queue_class: int | None,
    ) -> Ended:
        """Give back, to be claimed after a delay."""
        values: dict[str, Any] = {
            "state": JobState.WAITING.value,
            "visible_at": held.now + delay,
            "last_error": None if error is None else dict(error),
        }
        if queue_class is not None:
            values["queue_class"] = int(queue_class)
        outcome = "failed" if spend_attempt else "not ready"
        return self._end_run(conn, held, values | _FREED, outcome, error, spent=spend_attempt)

    def bury(self, conn: Connection, held: Held, error: Mapping[str, Any], *, untold: bool = False) -> Ended:
        """Make a dead letter of it; `untold` where its holder has told nobody."""
        values: dict[str, Any] = {
            "state": JobState.DEAD.value,
            "visible_at": None,
            "buried_at": held.now,
            "last_error": dict(error),
        }
        if untold:
            values |= untold_from(held.now)
        return self._end_run(conn, held, values | _FREED, "buried", error)

    def release(self, conn: Connection, owner: str, now: datetime) -> int:
        """Give back all that an owner holds, no attempt spent; how many."""
        rows = conn.execute(self._of_owner, {"owner_": owner}).mappings().all()
        for row in rows:
            values = {
                "state": JobState.WAITING.value,
                "visible_at": now,
                "attempts": max(0, row["attempts"] - 1),
                "history": with_entry(dict(row), now, "released"),
            }
            lease = Lease(row["tenant_id"], row["job_id"], row["lease_token"])
            self._write(conn, Held(lease, now), values | _FREED)
        return len(rows)

    def _end_run(
        self,
        conn: Connection,
        held: Held,
        values: Mapping[str, Any],
        outcome: str,
        error: Mapping[str, Any] | None = None,
        *,
        spent: bool = True,
    ) -> Ended:
        """Write the values, what the run made, and its entry in the history."""
        row = self._read(conn, held)
        checkpoint = {**row["checkpoint"], **(held.made or {})}
        told: dict[str, Any] = {"history": with_entry(row, held.now, outcome, error, held.ran)}
        if held.made:
            told["checkpoint"] = checkpoint
        if not spent:
            told["attempts"] = max(0, row["attempts"] - 1)
        if outcome == "done" and held.ran.passed and held.ran.passed[-1].stage != row["stage"]:
            told |= {"stage": held.ran.passed[-1].stage, "attempts": 1}
        self._write(conn, held, {**values, **told})
        return Ended(row["tenant_id"], row["kind"], row["subject"], checkpoint, held.now)

    def _read(self, conn: Connection, held: Held) -> dict[str, Any]:
        row = self._select.first(conn, _shown(held.lease))
        if row is None:
            raise _lost(held.lease.job_id, held.lease.token)
        return row

    def _write(self, conn: Connection, held: Held, values: Mapping[str, Any]) -> None:
        given = {f"new_{name}": value for name, value in values.items()}
        given |= {"new_updated_at": held.now, **_shown(held.lease)}
        if self._setting(tuple(values)).run(conn, given) != 1:
            raise _lost(held.lease.job_id, held.lease.token)

    def _setting(self, names: tuple[str, ...]) -> Hot:
        """Return the statement that sets these columns, built once."""
        if names not in self._updates:
            columns = [self._table.c[name] for name in (*names, "updated_at")]
            values = {c.name: sa.bindparam(f"new_{c.name}", type_=c.type) for c in columns}
            self._updates[names] = Hot(sa.update(self._table).where(self._held).values(values))
        return self._updates[names]


def _shown(lease: Lease) -> dict[str, Any]:
    return {"tenant_": lease.tenant_id, "job_": lease.job_id, "token_": lease.token}


def _lost(job_id: str, token: int) -> LeaseLost:
    return LeaseLost(f"job {job_id}: token {token} holds no lease")
