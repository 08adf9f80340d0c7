"""One run of a job under one lease: the stage it is at, what it has made, what the gateway knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.metrics import histogram

from trunkline_gateway.pipeline.policy import NORMALISE, POLICIES, Dead, Retry, Wait
from trunkline_gateway.providers.base import ANALYSE, RECORD

STAGE_SECONDS = histogram(
    "trunkline_stage_seconds",
    "One run of a stage, by how it ended.",
    ["stage", "outcome"],
    buckets=(0.005, 0.02, 0.05, 0.2, 0.5, 1, 2, 5, 15, 60, 300, 1800),
)
_WARNINGS_MOST = 50
_ORDER = {stage: place for place, stage in enumerate(POLICIES)}


@dataclass(slots=True)
class Run:
    """Belongs to one task.

    The told stage is the one that the gateway knows the job to be at: it only moves on. A stage that hurries
    is never told by itself: what it made goes with the next report. One that lingers is told while it runs,
    and one that fails before its failure, so that attempts are counted for the stage they were spent on.
    """

    job: pb.Job
    now: Callable[[], datetime]
    lingers: Callable[[Run], None]  # called when a stage lasts so long that the gateway should know
    linger_seconds: float
    expires: float = 0.0  # loop time when the lease runs out
    task: asyncio.Task[None] | None = None
    lost: bool = False
    made: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # what of the payload was left out, and of the recording is missing
    # What was gone through well and not told yet, with when each began and ended.
    passed: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    inside: bool = False  # between a stage's beginning and its good end
    stage: str = field(init=False)
    stage_started: datetime = field(init=False)
    _told: str = field(init=False)
    _told_started: datetime = field(init=False)
    _moved: bool = field(init=False, default=False)  # the told stage was entered by this run

    def __post_init__(self) -> None:
        """Begin where the gateway knows the job to be."""
        self.stage = self._told = self.job.stage if self.job.stage in _ORDER else NORMALISE
        self.stage_started = self._told_started = self.now()

    @property
    def tenant(self) -> str:
        """The bare tenant id."""
        return self.job.event.split("/")[1]

    @property
    def event_id(self) -> str:
        """The bare event id."""
        return self.job.event.rsplit("/", 1)[1]

    @property
    def known(self) -> Mapping[str, str]:
        """The resource names that an earlier run of the same generation told of."""
        return self.job.checkpoint

    def at(self, stage: str) -> _At:
        """Be at a stage, within its deadline: `async with`. Raises TimeoutError when that has passed."""
        return _At(self, stage)

    def warn(self, *warnings: str) -> None:
        """Say in the event what is not whole, before all else."""
        self.warnings = (*warnings, *self.warnings)[:_WARNINGS_MOST]

    def note(self, stage: str, name: str) -> None:
        """Remember what a stage made, for the next report."""
        self.made[stage] = name

    @property
    def call(self) -> str:
        """The call's name, as far as this run has recorded it; empty before."""
        return self.made.get(RECORD) or self.made.get(NORMALISE) or ""

    @property
    def attempt(self) -> int:
        """How many runs of the present stage there were, this one included."""
        return 1 if self._is_new else max(1, self.job.attempts)

    @property
    def waited_seconds(self) -> float:
        """How long ago the present stage was first run."""
        if self._is_new or not self.job.HasField("stage_start_time"):
            return 0.0
        return (self.now() - self.job.stage_start_time.ToDatetime(UTC)).total_seconds()

    @property
    def _is_new(self) -> bool:
        return self._moved or _ORDER[self.stage] > _ORDER[self._told]

    def advanced(self) -> list[pb.JobReport]:
        """Return the report that the job is at its stage, none when the gateway knows it or a later one."""
        if _ORDER[self.stage] <= _ORDER[self._told]:
            return []
        report = self._report(self._told, self._told_started, self.stage_started)
        report.advance.next_stage = self.stage
        self._told, self._told_started, self._moved = self.stage, self.stage_started, True
        return [report]

    def done(self, call: str) -> list[pb.JobReport]:
        """Return the report that every stage is done."""
        report = self._report(self.stage, self.stage_started, self.now())
        report.done.call = call
        return [report]

    def failed(self, follow_up: Wait | Retry | Dead) -> list[pb.JobReport]:
        """Return the reports of a failure: first which stage it was, so that attempts count for that one."""
        began = self._failed_since()
        reports = self.advanced()
        report = self._report(self.stage, began, self.now())
        match follow_up:
            case Wait(delay, reason, background):
                report.wait.reason = reason
                report.wait.background = background
                report.wait.delay.FromMilliseconds(int(delay * 1000))
            case Retry(delay, reason):
                report.retry.error = reason
                report.retry.delay.FromMilliseconds(int(delay * 1000))
            case Dead(reason):
                report.dead.error = reason
        return [*reports, report]

    def went_through(self) -> None:
        """Remember that the present stage was gone through well, unless it only looked up what is known."""
        self.inside = False
        if _ORDER[self.stage] < min(_ORDER[self._told], _ORDER[ANALYSE]):
            return
        began = self.stage_started
        if self.passed and self.passed[-1][0] == self.stage:  # a stage of two parts
            began = self.passed.pop()[1]
        self.passed.append((self.stage, began, self.now()))

    def _failed_since(self) -> datetime:
        """Return since when what failed was under way: a part of its stage that went well is none by itself.

        What was recorded with a lesser engine's answer failed in no stage: its wait began after the last.
        """
        if not self.passed or self.passed[-1][0] != self.stage:
            return self.stage_started
        return self.passed.pop()[1] if self.inside else self.passed[-1][2]

    def _report(self, stage: str, started: datetime, ended: datetime) -> pb.JobReport:
        report = pb.JobReport(
            lease=pb.Lease(job_id=self.job.job_id, lease_token=self.job.lease_token),
            stage=stage,
            checkpoint=self.made,
            warnings=self.warnings,
        )
        report.start_time.FromDatetime(started)
        report.end_time.FromDatetime(ended)
        for passed, began, over in self.passed:
            run = report.passed.add(stage=passed)
            run.start_time.FromDatetime(began)
            run.end_time.FromDatetime(over)
        self.passed = []
        return report


class _At:
    """A run's time at one stage; a class, since a generator's context manager costs every stage twice as much."""

    __slots__ = ("_deadline", "_run", "_span", "_stage", "_started", "_timer")

    def __init__(self, run: Run, stage: str):
        self._run = run
        self._stage = stage

    async def __aenter__(self) -> None:
        run = self._run
        run.stage = self._stage
        run.stage_started = run.now()
        run.inside = True
        loop = asyncio.get_running_loop()
        self._started = loop.time()
        self._timer = loop.call_later(run.linger_seconds, run.lingers, run)
        self._span = tracing.span(f"stage.{self._stage}", tenant=run.tenant, event=run.event_id)
        self._span.__enter__()
        self._deadline = asyncio.timeout(POLICIES[self._stage].deadline)
        await self._deadline.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = "failed"
        try:
            try:
                await self._deadline.__aexit__(kind, error, trace)
            except TimeoutError as late:
                self._span.__exit__(TimeoutError, late, late.__traceback__)
                raise
            self._span.__exit__(kind, error, trace)
            if kind is None:
                outcome = "ok"
                self._run.went_through()
        finally:
            self._timer.cancel()
            seconds = asyncio.get_running_loop().time() - self._started
            STAGE_SECONDS.labels(self._stage, outcome).observe(seconds)
