"""What a job is, before it is stored and as it is handed to a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from trunkline_store import StoreError
from trunkline_work import Passed


class LeaseLost(StoreError):
    """The fencing token is not (or no longer) that of a live lease: somebody else has the job, or had it.

    The worker stops at once and writes nothing more about it.
    """

    reason = "LEASE_LOST"
    code = "ABORTED"


class Lease(NamedTuple):
    """What the holder of a lease shows with every write: the job, by its tenant and its id, and the lease's token."""

    tenant_id: str
    job_id: str
    token: int


class Ran(NamedTuple):
    """When a run of a stage began and ended, as its worker says, and what it went through before, in order."""

    began: datetime | None = None
    ended: datetime | None = None
    passed: Sequence[Passed] = ()


NOT_TOLD = Ran()


class QueueClass(IntEnum):
    """Which jobs go before which."""

    REALTIME = 0
    BATCH = 1
    BACKGROUND = 2


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


@dataclass(slots=True)  # not frozen: that would cost two microseconds a job
class NewJob:
    """A job to enqueue. Identifiers and resource names only: never content, never a credential. Nobody changes it."""

    job_id: str
    """Its tenant's own. Derived from what the job is for, so that enqueueing twice makes one job."""
    tenant_id: str
    kind: str
    subject: str
    """What it is about, for an operator: an event id."""
    stage: str
    """The stage it begins at."""
    queue_class: int = QueueClass.REALTIME
    group_key: str | None = None
    """Jobs of one tenant and group run one after another; None: no such bond."""
    visible_at: datetime | None = None
    """Not before this moment; None: now."""
    generation: int = 0
    checkpoint: Mapping[str, Any] | None = None
    """What earlier stages made, by resource name."""
    dead: Mapping[str, Any] | None = None
    """Set: it is a dead letter from the start, for this reason; it can be revived like any other."""


@dataclass(frozen=True)
class Job:
    """A job as stored; right after claim() it is the lease that the caller holds."""

    job_id: str
    tenant_id: str
    queue_class: int
    kind: str
    subject: str
    group_key: str | None
    stage: str
    state: JobState
    visible_at: datetime | None
    """Waiting: not before. Leased: when the lease ends. None when done or dead."""
    attempts: int
    """Runs of the present stage, this one included; runs that ended by a crash count."""
    lease_owner: str | None
    lease_token: int
    """The fence: grows with each claim; every write of the holder shows it."""
    lease_until: datetime | None
    stage_began_at: datetime | None
    """When the present stage was first tried; None before."""
    generation: int
    checkpoint: dict[str, Any]
    last_error: dict[str, Any] | None
    history: list[dict[str, Any]]
    """The latest entries: at and, where told, began (RFC 3339); outcome, stage, attempt, owner; any error."""
    buried_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def lease(self) -> Lease:
        """What its holder shows."""
        return Lease(self.tenant_id, self.job_id, self.lease_token)
