"""Rows to jobs and back, and the bounded history that travels with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from trunkline_jobs.model import NOT_TOLD, Job, JobState, Ran

# A day of waiting for a recording is about 100 looks; EventService shows as many.
HISTORY_KEPT = 100
_WELL = ("advanced", "done")


def to_job(row: Mapping[str, Any]) -> Job:
    """Return the job of a full row."""
    return Job(
        job_id=row["job_id"],
        tenant_id=row["tenant_id"],
        queue_class=row["queue_class"],
        kind=row["kind"],
        subject=row["subject"],
        group_key=row["group_key"],
        stage=row["stage"],
        state=JobState(row["state"]),
        visible_at=row["visible_at"],
        attempts=row["attempts"],
        lease_owner=row["lease_owner"],
        lease_token=row["lease_token"],
        lease_until=row["lease_until"],
        stage_began_at=row["stage_began_at"],
        generation=row["generation"],
        checkpoint=row["checkpoint"],
        last_error=row["last_error"],
        history=row["history"],
        buried_at=row["buried_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def with_entry(
    row: Mapping[str, Any],
    at: datetime,
    outcome: str,
    error: Mapping[str, Any] | None = None,
    ran: Ran = NOT_TOLD,
) -> list[dict[str, Any]]:
    """Return a job's history with what its present run went through and how it ended; the oldest fall out.

    A run that ended well has nothing to add to the stages it went through, where those are told.
    """
    entries = [_entry(row, one.stage, one.ended, "advanced", one.began) for one in ran.passed]
    if not entries or outcome not in _WELL:
        last = _entry(row, row["stage"], ran.ended or at, outcome, ran.began)
        if error is not None:
            last["error"] = dict(error)
        entries.append(last)
    return [*row["history"], *entries][-HISTORY_KEPT:]


def _entry(
    row: Mapping[str, Any], stage: str, at: datetime, outcome: str, began: datetime | None
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "at": at.isoformat(),
        "outcome": outcome,
        "stage": stage,
        "attempt": row["attempts"] if stage == row["stage"] else 1,
        "owner": row["lease_owner"],
    }
    if began is not None:
        entry["began"] = began.isoformat()
    return entry
