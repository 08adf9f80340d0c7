"""A job as its worker holds it, and what its worker says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from trunkline_runtime.errors import TrunklineError


class JobKey(NamedTuple):
    """What names a job: its id is its tenant's own."""

    tenant: str
    """The bare tenant id."""
    job_id: str


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job under a lease of the worker that has it."""

    job_id: str
    lease_token: int
    """The fence: every report shows it."""
    kind: str
    tenant: str
    """The bare tenant id."""
    stage: str
    attempts: int
    """Runs of the present stage, this one included."""
    stage_began_at: datetime | None
    """When the present stage was first run; None before."""
    payload: Any
    """What its kind's handler works on, as the source knows it."""

    @property
    def key(self) -> JobKey:
        """What names it."""
        return JobKey(self.tenant, self.job_id)


class Passed(NamedTuple):
    """A stage that a run went through well."""

    stage: str
    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """Every stage is done; `result` is what its handler returned."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """The stage is done, and the worker goes on with the next one under the same lease."""

    next_stage: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Try again after `delay` seconds, no attempt spent; in the `background` when the rest only improves it.

    Here and below, `cause` is the error itself, for a source that keeps it whole.
    """

    delay: float
    reason: str
    background: bool = False
    cause: TrunklineError | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds, one attempt spent."""

    delay: float
    reason: str
    cause: TrunklineError | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Dead:
    """Do not try again."""

    reason: str
    cause: TrunklineError | None = field(default=None, compare=False)


Outcome: TypeAlias = Done | Advanced | Wait | Retry | Dead


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a run of a job, and what it made and went through since its last report."""

    job: LeasedJob
    outcome: Outcome
    stage: str
    began: datetime | None = None
    ended: datetime | None = None
    made: Mapping[str, str] = field(default_factory=dict)
    """Resource names by stage, which are merged into those that the source has."""
    passed: Sequence[Passed] = ()
    warnings: Sequence[str] = ()
    """What of the payload was left out. Never content."""
