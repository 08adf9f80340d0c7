"""One run of a job under one lease: the stage it is at, what it has made, what the gateway knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType

from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.metrics import histogram
from trunkline_work import Advanced, Attempt, Done, FollowUp, Outcome, Passed, Report

from trunkline_gateway.pipeline.policy import POLICIES
from trunkline_gateway.providers.base import ANALYSE, NORMALISE, RECORD

STAGE_SECONDS = histogram(
    "trunkline_stage_seconds",
    "One run of a stage, by how it ended.",
    ["stage", "outcome"],
    buckets=(0.005, 0.02, 0.05, 0.2, 0.5, 1, 2, 5, 15, 60, 300, 1800),
)
_WARNINGS_MOST = 50
_ORDER = {stage: place for place, stage in enumerate(POLICIES)}


@dataclass(slots=True, eq=False, kw_only=True)
class Run(Attempt):
    """Belongs to one task.

    The told stage is the one that the gateway knows the job to be at: it only moves on. A stage that hurries
    is never told by itself: what it made goes with the next report. One that lingers is told while it runs,
    and one that fails before its failure, so that attempts are counted for the stage they were spent on.
    """

    job: pb.Job = field(init=False)
    now: Callable[[], datetime]
    lingers: Callable[[Run], None]  # called when a stage lasts so long that the gateway should know
    linger_seconds: float
    made: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # what of the payload was left out, and of the recording is missing
    # What was gone through well and not told yet, with when each began and ended.
    passed: list[Passed] = field(default_factory=list)
    inside: bool = False  # between a stage's beginning and its good end
    stage: str = field(init=False)
    stage_started: datetime = field(init=False)
    _told: str = field(init=False)
    _told_started: datetime = field(init=False)
    _moved: bool = field(init=False, default=False)  # the told stage was entered by this run

    def __post_init__(self) -> None:
        """Begin where the gateway knows the job to be."""
        self.job = self.leased.payload
        self.stage = self._told = self.job.stage if self.job.stage in _ORDER else NORMALISE
        self.stage_started = self._told_started = self.now()

    @property
    def tenant(self) -> str:
        """The bare tenant id."""
        return self.leased.tenant

    @property
    def event_id(self) -> str:
        """The bare event id."""
        return self.job.event.rsplit("/", 1)[1]

    @property
    def described(self) -> Mapping[str, str]:
        """Who it is about, for the log."""
        return {"event_id": self.event_id, "tenant": self.tenant, "stage": self.stage}

    @property
    def known(self) -> Mapping[str, str]:
        """The resource names that an earlier run of the same generation told of."""
        return self.job.checkpoint

    def at(self, stage: str) -> _AtStage:
        """Be at a stage, within its deadline: `async with`. Raises TimeoutError when that has passed."""
        return _AtStage(self, stage)

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
        return 1 if self._is_new else max(1, self.leased.attempts)

    @property
    def waited_seconds(self) -> float:
        """How long ago the present stage was first run."""
        if self._is_new or self.leased.stage_began_at is None:
            return 0.0
        return (self.now() - self.leased.stage_began_at).total_seconds()

    @property
    def _is_new(self) -> bool:
        return self._moved or _ORDER[self.stage] > _ORDER[self._told]

    def advanced(self) -> list[Report]:
        """Return the report that the job is at its stage, none when the gateway knows it or a later one."""
        if _ORDER[self.stage] <= _ORDER[self._told]:
            return []
        report = self._report(Advanced(self.stage), self._told, self._told_started, self.stage_started)
        self._told, self._told_started, self._moved = self.stage, self.stage_started, True
        return [report]

    def reports(self, outcome: Done | FollowUp) -> list[Report]:
        """Return the report that every stage is done, or those of a failure.

        Before a failure comes which stage it was, so that attempts count for that one.
        """
        if isinstance(outcome, Done):
            return [self._report(outcome, self.stage, self.stage_started, self.now())]
        began = self._failed_since()
        return [*self.advanced(), self._report(outcome, self.stage, began, self.now())]

    def went_through(self) -> None:
        """Remember that the present stage was gone through well, unless it only looked up what is known."""
        self.inside = False
        if _ORDER[self.stage] < min(_ORDER[self._told], _ORDER[ANALYSE]):
            return
        began = self.stage_started
        if self.passed and self.passed[-1][0] == self.stage:  # a stage of two parts
            began = self.passed.pop()[1]
        self.passed.append(Passed(self.stage, began, self.now()))

    def _failed_since(self) -> datetime:
        """Return since when what failed was under way: a part of its stage that went well is none by itself.

        What was recorded with a lesser engine's answer failed in no stage: its wait began after the last.
        """
        if not self.passed or self.passed[-1][0] != self.stage:
            return self.stage_started
        return self.passed.pop()[1] if self.inside else self.passed[-1][2]

    def _report(self, outcome: Outcome, stage: str, began: datetime, ended: datetime) -> Report:
        passed, self.passed = self.passed, []
        return Report(self.leased, outcome, stage, began, ended, dict(self.made), passed, self.warnings)


class _AtStage:
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
            STAGE_SECONDS.labels(self._stage, outcome).observe(seconds, tracing.exemplar())
