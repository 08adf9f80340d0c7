"""Retries with jitter, by tenacity: of what may succeed later, for as long as it makes sense."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trunkline_runtime.errors import TrunklineError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

Sleep = Callable[[float], Awaitable[None]]


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: transient domain errors, time-outs, lost connections."""
    if isinstance(error, TrunklineError):
        return error.transient
    return isinstance(error, TimeoutError | ConnectionError)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try. Pauses double from `first_seconds` to `most_seconds`, with full jitter."""

    attempts: int = 4
    first_seconds: float = 0.1
    most_seconds: float = 5.0
    total_seconds: float = 30.0
    retry_on: Callable[[BaseException], bool] = is_transient


def retrying(policy: RetryPolicy = RetryPolicy(), *, sleep: Sleep | None = None) -> AsyncRetrying:
    """Return what retries a coroutine function: `await retrying(policy)(fetch, url)`; raises the last error.

    A server's RetryInfo is the least pause.
    """
    import asyncio  # noqa: PLC0415 -- with tenacity, only where something is retried

    import tenacity  # noqa: PLC0415

    jitter = tenacity.wait_random_exponential(multiplier=policy.first_seconds, max=policy.most_seconds)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        least = error.retry_after if isinstance(error, TrunklineError) and error.retry_after else 0.0
        return max(jitter(state), least)

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(policy.retry_on),
        stop=tenacity.stop_after_attempt(policy.attempts) | tenacity.stop_after_delay(policy.total_seconds),
        wait=pause,
        sleep=sleep or asyncio.sleep,
        reraise=True,
    )
