"""Trying again: with jitter, by tenacity, for as long as it makes sense; or for ever, at growing intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trunkline_runtime.errors import TrunklineError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState
    from tenacity.stop import stop_base

Sleep = Callable[[float], Awaitable[None]]


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: transient domain errors, time-outs, lost connections."""
    if isinstance(error, TrunklineError):
        return error.transient
    return isinstance(error, TimeoutError | ConnectionError)


def asked_pause(error: BaseException) -> float:
    """Return the seconds that an error of ours asks to wait, such as a server's RetryInfo; 0 if it doesn't."""
    return getattr(error, "retry_after", None) or 0.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try. Pauses double from `first_seconds` to `most_seconds`, with full jitter.

    `pause_of` tells the least pause after an error, in seconds.
    """

    attempts: int | None = 4
    """None: as many as there is time for."""
    first_seconds: float = 0.1
    most_seconds: float = 5.0
    total_seconds: float = 30.0
    retry_on: Callable[[BaseException], bool] = is_transient
    pause_of: Callable[[BaseException], float] = asked_pause


class Pauses:
    """The pauses of a loop that never gives up: each `factor` times the one before, from `first` to `most` seconds.

    `retrying` is for what ends: a call that may fail for good.
    """

    def __init__(self, first: float, most: float, factor: float = 2.0) -> None:
        self._first = first
        self._most = most
        self._factor = factor
        self.seconds = first
        """How long the next pause is."""

    def reset(self) -> None:
        """Begin anew: it went well."""
        self.seconds = self._first

    def after(self, failures: int) -> float:
        """Return the pause after that many earlier ones, for a loop that keeps its count elsewhere."""
        return min(self._first * self._factor**failures, self._most)

    async def rest(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Pause, and make the next pause longer."""
        seconds, self.seconds = self.seconds, min(self.seconds * self._factor, self._most)
        await sleep(seconds)


def retrying(policy: RetryPolicy = RetryPolicy(), *, sleep: Sleep | None = None) -> AsyncRetrying:
    """Return what retries a coroutine function: `await retrying(policy)(fetch, url)`; raises the last error.

    A pause that would end after the policy's total is not begun.
    """
    import tenacity  # noqa: PLC0415 -- only where something is retried

    jitter = tenacity.wait_random_exponential(multiplier=policy.first_seconds, max=policy.most_seconds)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return max(jitter(state), policy.pause_of(error) if error is not None else 0.0)

    stop: stop_base = tenacity.stop_before_delay(policy.total_seconds)
    if policy.attempts is not None:
        stop |= tenacity.stop_after_attempt(policy.attempts)
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(policy.retry_on),
        stop=stop,
        wait=pause,
        sleep=sleep or asyncio.sleep,
        reraise=True,
    )
