"""Tells the calls of jobs that ended without a worker to tell them: a claim buried the job, or somebody cancelled it.

What is to be told lies in the store, with the job (trunkline_jobs.untold): a gateway that stops, or is killed, in
between leaves it to the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_jobs import JobState, Queue, Untold
from trunkline_runtime.errors import InvalidArgument, NotFound, TrunklineError
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter
from trunkline_runtime.resilience import Pauses
from trunkline_store import Database

from trunkline_gateway.events.progress import TellCall, cancelled_state, told_state

log = get_logger(__name__)

NOT_TOLD = counter("trunkline_calls_not_told_total", "Calls that never learned that their event had ended.")

TELL_SECONDS = 2.0
# An entry that fails is tried again after 2 s, 4 s, and so on up to an hour, for about two days in all.
PAUSES = Pauses(2.0, 3600.0)
MOST_TRIES = 60
_AT_ONCE = 16
_A_PASS = 320


def call_of(checkpoint: Mapping[str, Any]) -> str:
    """Return the call that a job is about, as the last stage that named one knows it; empty before."""
    return checkpoint.get("record") or checkpoint.get("normalise") or ""


def ended_state(job: Untold) -> call_service_pb2.RecordCallStateRequest | None:
    """Return what the call of a job is told, None when there is no call yet."""
    call = call_of(job.checkpoint)
    if not call:
        return None
    event = f"tenants/{job.tenant_id}/events/{job.subject}"
    if job.state == JobState.CANCELLED:
        return cancelled_state(call, event, job.lease_token)
    reason = str(job.error.get("message", ""))
    return told_state(call, event, call_pb2.CALL_STATE_FAILED, job.lease_token, reason)


class Burials:
    """What is to be told, in the store; `tell` is to be called every TELL_SECONDS."""

    def __init__(self, db: Database, queue: Queue, tell: TellCall):
        """`tell` tells the tenant service."""
        self._db = db
        self._queue = queue
        self._tell = tell

    async def tell(self) -> None:
        """Tell what is due. What fails moves behind the rest, and is given up after MOST_TRIES. Raises StoreError."""
        due = await self._db.read(lambda conn: self._queue.untold(conn, _A_PASS))
        for start in range(0, len(due), _AT_ONCE):
            told = await asyncio.gather(*(self._told(job) for job in due[start : start + _AT_ONCE]))
            if not any(told):
                return  # nobody can be told now: the rest is not worth a time-out each

    async def _told(self, job: Untold) -> bool:
        """Tell of one job and clear its mark; False when it is to be told later."""
        try:
            state = ended_state(job)
            if state is not None:
                await self._tell(state)
        except Exception as error:  # whatever it is, it must not keep the others from being told
            for_good = isinstance(error, NotFound | InvalidArgument)
            if not for_good and job.tries + 1 < MOST_TRIES:
                delay = timedelta(seconds=PAUSES.after(job.tries))
                await self._db.write(lambda conn: self._queue.tell_later(conn, job, delay))
                return False
            NOT_TOLD.inc()
            reason = error.reason if isinstance(error, TrunklineError) else type(error).__name__
            log.error(
                "call_not_told",
                call=call_of(job.checkpoint),
                of=f"tenants/{job.tenant_id}/events/{job.subject}",
                tries=job.tries + 1,
                reason=reason,
            )
        await self._db.write(lambda conn: self._queue.told(conn, job))
        return True
