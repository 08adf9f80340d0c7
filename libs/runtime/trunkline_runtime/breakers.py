"""A circuit breaker per service or engine: after failures in a row it is left alone a while, and a gauge says it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from trunkline_runtime.errors import DeadlineExceeded, Unavailable
from trunkline_runtime.observe.metrics import gauge

T = TypeVar("T")

STATE = gauge("trunkline_breaker_state", "0 closed: asked; 1 half open; 2 open: left alone.", ["service"])
_STATES = {"closed": 0.0, "half-opened": 1.0, "opened": 2.0}


class CircuitOpen(Exception):
    """The service failed too often and is left alone for `retry_after` more seconds."""

    def __init__(self, service: str, retry_after: float):
        super().__init__(f"the {service} service is not called for a while after consecutive failures")
        self.service = service
        self.retry_after = retry_after


def is_outage(error: BaseException) -> bool:
    """Say whether the service itself cannot be had.

    An error with a reason of its own is an answer: it is well.
    """
    return isinstance(error, Unavailable) and error.reason in ("UNAVAILABLE", "STORE_UNAVAILABLE")


class Breakers:
    """The breakers of one process."""

    def __init__(
        self,
        failures: int,
        seconds: float,
        services: tuple[str, ...],
        slow: tuple[str, ...] = (),
        now: Callable[[], float] = time.time,
        outage: Callable[[BaseException], bool] = is_outage,
    ):
        """Open after `failures` outages in a row, for `seconds`. `now` is purgatory's clock, which is the machine's.

        `outage` says which errors are one. A deadline that passed tells that a service hangs; of a `slow` one, only
        that one recording is long.
        """
        self._seconds = seconds
        self._slow = slow
        self._now = now
        self._shown: dict[str, tuple[float, float]] = {}
        """What the gauge shows of each service, and until when if that is open."""
        self._factory = AsyncCircuitBreakerFactory(default_threshold=failures, default_ttl=seconds)
        self._factory.add_listener(self._changed)
        self._exclude: list[Any] = [asyncio.CancelledError, (Exception, lambda error: not outage(error))]
        self._exclude_hanging: list[Any] = [
            asyncio.CancelledError,
            (Exception, lambda error: not (outage(error) or isinstance(error, DeadlineExceeded))),
        ]
        for service in services:
            self._show(service, _STATES["closed"])

    async def call(self, service: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask a service. Raises `CircuitOpen` instead of asking one that is left alone."""
        exclude = self._exclude if service in self._slow else self._exclude_hanging
        breaker = await self._factory.get_breaker(service, exclude=exclude)
        try:
            async with breaker:
                return await ask()
        except OpenedState as opened:
            raise CircuitOpen(service, max(0.05, opened.opened_at + self._seconds - self._now())) from None

    def _changed(self, service: str, kind: str, event: Any) -> None:
        if kind == "state_changed":
            self._show(service, _STATES[event.state])

    def _show(self, service: str, state: float) -> None:
        is_new = service not in self._shown
        self._shown[service] = state, self._now() + self._seconds
        if is_new:
            STATE.labels(service).set_function(lambda: self._state_of(service))

    def _state_of(self, service: str) -> float:
        """Return what the gauge shows: half open from the end of the rest on, also while nobody asks."""
        state, until = self._shown[service]
        return _STATES["half-opened"] if state == _STATES["opened"] and self._now() >= until else state
