"""The kind of job that takes an event through its stages, and what its worker counts and logs."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime

from trunkline_runtime.breakers import CircuitOpen
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.logs import bind, get_logger
from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_runtime.observe.top import Top
from trunkline_work import Attempt, Dead, FollowUp, Kind, LeasedJob, Observer, Retry, Wait
from trunkline_work.kinds import Tell

from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_gateway.pipeline.job_source import KIND
from trunkline_gateway.pipeline.policy import MEDIA, Degraded, describe, follow_up, is_expected
from trunkline_gateway.pipeline.run import Run
from trunkline_gateway.providers.base import RECORD

log = get_logger(__name__)

JOBS = counter("trunkline_worker_jobs_total", "Runs of jobs by how they ended.", ["outcome"])
OF_TENANT = counter(
    "trunkline_tenant_jobs_total",
    "Runs of jobs by tenant and how they ended; of tenants beyond the 100 busiest, tenant is other.",
    ["tenant", "outcome"],
)
MOST_TENANTS = 100
OTHER = "other"
OUTCOMES = ("done", "wait", "retry", "dead", "released", "lost")
RUNNING = gauge("trunkline_worker_running", "Jobs that are worked on now.")
LAST_CLAIM = gauge("trunkline_worker_last_claim_seconds", "Unix time of the last claim that was answered.")
_TELL_AGAIN_SECONDS = 15.0


class EventWork:
    """The handler and the policy of the pipeline's jobs."""

    def __init__(
        self,
        process: Callable[[Run], Awaitable[str]],
        tell_dead: Callable[[Run, str], Awaitable[None]],
        config: WorkerConfig,
        now: Callable[[], datetime],
    ):
        """Take Stages.process and Stages.told_dead."""
        self._process = process
        self._tell_dead = tell_dead
        self._config = config
        self._now = now

    def kind(self) -> Kind[Run]:
        """Return the kind."""
        return Kind(KIND, self.handle, self.follow_up, self.begin)

    def begin(self, job: LeasedJob, tell: Tell) -> Run:
        """Make a run, which tells of a stage that lasts while it goes on."""
        return Run(
            job,
            now=self._now,
            lingers=lambda run: tell(run, run.advanced()),
            linger_seconds=self._config.checkpoint_after_seconds,
        )

    async def handle(self, run: Run) -> str:
        """Run the stages; return the recorded call's name. What is recorded and can't be made better is done too."""
        # A gateway of the version before tells of no trace.
        place = tracing.incoming(run.job.traceparent) or tracing.new_trace()
        tracing.enter(place)  # for what follows of a failure, too
        bind(tenant=run.tenant, event_id=run.event_id)
        repeats = tracing.incoming(run.job.replayed_traceparent)
        with tracing.resumed_span(
            "event.process", place, repeats, tenant=run.tenant, event=run.event_id, attempt=run.attempt
        ):
            try:
                call = await self._process(run)
            except Exception as error:
                if not _is_recorded(run, error) or not isinstance(follows := self._follows(run, error), Dead):
                    raise
                call = run.made.get(RECORD) or run.known[RECORD]
                log.warning("event_stays_degraded", call=call, stage=run.stage, reason=follows.reason)
            log.info("event_done", call=call, generation=run.job.generation)
        return call

    async def follow_up(self, run: Run, error: Exception) -> FollowUp:
        """Say what follows from a stage's failure; of a dead letter its call is told first."""
        what: FollowUp = self._follows(run, error)
        if isinstance(what, Dead):
            what = await self._told_dead(run, what)
        outcome = type(what).__name__.lower()
        if not is_expected(error):
            log.error("stage_broke", stage=run.stage, outcome=outcome, exc_info=error)
        else:
            level = log.warning if isinstance(what, Dead) else log.info
            level("stage_failed", stage=run.stage, outcome=outcome, reason=what.reason, attempt=run.attempt)
        return what

    def _follows(self, run: Run, error: Exception) -> Wait | Retry | Dead:
        return follow_up(
            run.stage,
            error,
            attempt=run.attempt,
            waited_seconds=run.waited_seconds,
            give_up_after=self._config.recording_wait_seconds,
        )

    async def _told_dead(self, run: Run, dead: Dead) -> Dead | Wait:
        """Have the call say that it failed, before the event does; where nobody can be told now, that is waited for."""
        try:
            await self._tell_dead(run, dead.reason)
        except (TrunklineError, CircuitOpen) as error:
            transient = isinstance(error, CircuitOpen) or error.transient
            if transient and run.waited_seconds < self._config.recording_wait_seconds:
                return Wait(
                    _TELL_AGAIN_SECONDS, f"{describe(error)} (its call is to say: {dead.reason})"[:500]
                )
            log.warning("call_not_told", stage=run.stage, reason=describe(error))
        return dead


def _is_recorded(run: Run, error: Exception) -> bool:
    """Say whether the event's call holds all that the stages found, by this run or by an earlier one.

    A file that is still to be fetched is not among it.
    """
    return isinstance(error, Degraded) or (RECORD in run.known and MEDIA not in (run.stage, run.job.stage))


class WorkerMetrics(Observer):
    """Counts what the pipeline's worker does, and says which gateway it asks."""

    def __init__(self, gateway_address: str, told: Callable[[bool], None] = lambda _there: None):
        """`told` is told whether the gateway answered the last claim."""
        self._address = gateway_address
        self._told = told
        self._tenants = Top(MOST_TENANTS, _forget)

    def claimed(self) -> None:
        """Note when."""
        LAST_CLAIM.set_to_current_time()
        self._told(True)

    def claim_failed(self, error: TrunklineError, retry_seconds: float) -> None:
        """Say whom it asked, and by which setting."""
        self._told(False)
        log.warning(
            "claim_failed",
            reason=error.reason,
            retry_seconds=retry_seconds,
            address=self._address,
            setting="TRUNKLINE_WORKER_GATEWAY_ADDRESS",
        )

    def running(self, jobs: int) -> None:
        """Show it."""
        RUNNING.set(jobs)

    def ended(self, attempt: Attempt, outcome: str) -> None:
        """Count it."""
        JOBS.labels(outcome).inc()
        tenant = attempt.leased.tenant
        OF_TENANT.labels(tenant if self._tenants.takes(tenant) else OTHER, outcome).inc()


def _forget(tenant: str) -> None:
    for outcome in OUTCOMES:
        with contextlib.suppress(KeyError):
            OF_TENANT.remove(tenant, outcome)
