"""What follows from a failure: the table of the stages' retries, and the one function that reads it.

Three answers. A *wait* spends no attempt: what is missing is nobody's fault here (a recording that is not
there yet, a credential that is refused until somebody corrects it, a service that cannot be reached, a queue that
is full), and it ends after `give_up_after`. A
*retry* spends one. A *dead letter* needs somebody: what failed will fail again as it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from trunkline_runtime.breakers import CircuitOpen
from trunkline_runtime.errors import (
    PermissionDenied,
    ResourceExhausted,
    TrunklineError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from trunkline_work import Dead, Retry, Wait

from trunkline_gateway.providers.base import ANALYSE, FETCH, NORMALISE, RECORD, TRANSCRIBE, Malformed

MEDIA = "fetch_media"
NOT_READY = "RECORDING_NOT_READY"
EMPTY = "RECORDING_EMPTY"
ENGINE_NOT_READY = "ENGINE_NOT_READY"
ENGINE_UNKNOWN = "ENGINE_UNKNOWN"
FORBIDDEN = "RECORDING_FORBIDDEN"
NOT_AUDIO = "NOT_AUDIO"
TRUNCATED = "RECORDING_TRUNCATED"
_ERROR_MOST = 500


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """How one stage is tried: seconds everywhere."""

    attempts: int  # runs before it is given up
    deadline: float  # of one run, its quick retries included
    call: float  # of one RPC
    first_delay: float  # doubles with every attempt ...
    most_delay: float  # ... up to this


POLICIES = {
    NORMALISE: StagePolicy(attempts=10, deadline=20, call=8, first_delay=1, most_delay=120),
    FETCH: StagePolicy(attempts=8, deadline=180, call=150, first_delay=5, most_delay=900),
    TRANSCRIBE: StagePolicy(attempts=5, deadline=90, call=30, first_delay=10, most_delay=900),
    ANALYSE: StagePolicy(attempts=8, deadline=120, call=60, first_delay=3, most_delay=600),
    RECORD: StagePolicy(attempts=10, deadline=20, call=8, first_delay=1, most_delay=120),
    MEDIA: StagePolicy(attempts=8, deadline=180, call=150, first_delay=5, most_delay=900),
}

MOST_ATTEMPTS = max(policy.attempts for policy in POLICIES.values())
"""Of a stage that has no policy here."""


class Unfetchable(Exception):
    """A recording that the event names cannot be asked for as the source is configured; the text says why."""


class Degraded(Exception):
    """The call is recorded with the answer of a lesser engine; `retry_after` seconds are the shortest wait."""

    def __init__(self, retry_after: float, what: str = "analysis"):
        super().__init__(f"recorded with a degraded {what}, until the configured engine answers")
        self.retry_after = retry_after
        self.what = what


class StillRunning(Exception):
    """An operation that the stage started goes on without it; the text is its name."""


def follow_up(
    stage: str,
    error: Exception,
    *,
    attempt: int,
    waited_seconds: float,
    give_up_after: float,
    jitter: Callable[[], float] = random.random,
) -> Wait | Retry | Dead:
    """Say what follows from a stage's failure.

    `attempt` counts the runs of the stage, this one included; `waited_seconds` is how long ago it was first
    run; `jitter` gives 0 to 1. Reasons hold codes and the other side's message, never content.
    """
    policy = POLICIES[stage]
    reason = describe(error)
    if isinstance(error, Malformed | Unfetchable):
        return Dead(reason)
    if _is_waited_for(error):
        if waited_seconds >= give_up_after:
            return Dead(f"given up after {waited_seconds / 3600:.1f} h: {reason}"[:_ERROR_MOST])
        background = isinstance(error, Degraded)
        return Wait(_waiting_delay(error, waited_seconds, jitter()), reason, background)
    if isinstance(error, TrunklineError) and not error.transient and not _may_be_a_passing_bug(error):
        return Dead(reason)
    if attempt >= policy.attempts:
        return Dead(f"given up after {attempt} attempts: {reason}"[:_ERROR_MOST])
    delay = min(policy.most_delay, policy.first_delay * 2.0 ** max(0, attempt - 1))
    return Retry(delay * (0.5 + 0.5 * jitter()), reason)


def describe(error: Exception) -> str:
    """Return a failure in a sentence without content: an unexpected exception shows its type only."""
    if isinstance(error, TrunklineError):
        return f"{error.reason}: {error.message}"[:_ERROR_MOST]
    if isinstance(error, Malformed):
        return f"MALFORMED: {error}"[:_ERROR_MOST]
    if isinstance(error, Unfetchable):
        return f"RECORDING_UNFETCHABLE: {error}"[:_ERROR_MOST]
    if isinstance(error, CircuitOpen):
        return f"CIRCUIT_OPEN: {error}"[:_ERROR_MOST]
    if isinstance(error, Degraded):
        return f"{error.what.upper()}_DEGRADED: {error}"
    if isinstance(error, StillRunning):
        return f"OPERATION_RUNNING: {error}"[:_ERROR_MOST]
    if isinstance(error, TimeoutError):
        return "DEADLINE_EXCEEDED: the stage took longer than its deadline"
    return f"INTERNAL: {type(error).__name__}"


def is_expected(error: Exception) -> bool:
    """Say whether a failure is one that stages have by design; any other is a bug of ours."""
    return isinstance(
        error, TrunklineError | Malformed | Unfetchable | CircuitOpen | Degraded | StillRunning | TimeoutError
    )


def _is_waited_for(error: Exception) -> bool:
    """Say whether waiting is the cure: the fault lies with what is waited for, not with this event.

    Being refused as a caller means that the suite is set up wrongly, being refused by the provider that the source
    is, and an engine that is not there that the tenant is: no event is lost over that.
    """
    if isinstance(error, TrunklineError) and error.reason == TRUNCATED:
        return False  # after a few attempts what came is taken
    return (isinstance(error, TrunklineError) and error.reason in (FORBIDDEN, ENGINE_UNKNOWN)) or isinstance(
        error,
        CircuitOpen
        | Degraded
        | StillRunning
        | Unavailable
        | ResourceExhausted
        | Unauthenticated
        | PermissionDenied
        | Unimplemented,
    )


def _waiting_delay(error: Exception, waited_seconds: float, jitter: float) -> float:
    if isinstance(error, CircuitOpen):
        return error.retry_after * (1 + jitter)
    if isinstance(error, Degraded):
        # Each look costs a question to the engine: often at first, then seldom.
        return min(900.0, max(error.retry_after, waited_seconds / 4)) * (0.75 + 0.5 * jitter)
    # An engine may lack its model until somebody fetches it, and all calls wait for it: each looks ever more seldom,
    # whatever delay the answer suggests.
    lasting = isinstance(error, TrunklineError) and error.reason == ENGINE_NOT_READY
    if isinstance(error, TrunklineError) and error.retry_after is not None and not lasting:
        return max(0.1, error.retry_after) * (1 + 0.5 * jitter)
    if isinstance(error, TrunklineError) and error.reason in (NOT_READY, EMPTY):
        # Most recordings come within minutes, a few within the day: look often first, then seldom.
        return min(900.0, max(15.0, waited_seconds / 2)) * (0.75 + 0.5 * jitter)
    if isinstance(error, TrunklineError) and error.reason == FORBIDDEN:
        # A refusal now and then is the provider's mood, one that stays is for somebody to mend.
        return min(900.0, max(5.0, waited_seconds / 2)) * (0.75 + 0.5 * jitter)
    return min(60.0, max(2.0, waited_seconds / 4)) * (0.75 + 0.5 * jitter)


def _may_be_a_passing_bug(error: TrunklineError) -> bool:
    """INTERNAL and UNKNOWN are bugs or broken machines, and ABORTED a lost race: worth the attempts."""
    return error.code.name in ("INTERNAL", "UNKNOWN", "ABORTED", "CANCELLED")
