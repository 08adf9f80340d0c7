"""The RPC that a task serves: what its interceptor knows of it."""

from __future__ import annotations

import contextvars
import os
import random
import re
from collections.abc import Iterable
from typing import Any

from trunkline_runtime.identity.callers import ANONYMOUS, Caller

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_random = random.Random(random.SystemRandom().getrandbits(64))  # noqa: S311 -- request ids are no secrets
os.register_at_fork(after_in_child=_random.seed)


def request_id_of(given: str) -> str:
    """Return a request's id: what its caller gave as `x-request-id` where that may stand in logs, or a new one."""
    return given if _REQUEST_ID.fullmatch(given) else f"{_random.getrandbits(64):016x}"


class Rpc:
    """One call that is served. `request_id` is the caller's `x-request-id`, or made here."""

    __slots__ = ("authorization", "caller", "context", "method", "request_id", "traceparent")

    def __init__(self, method: str, context: Any) -> None:
        self.method = method
        self.context = context
        self.caller: Caller = ANONYMOUS
        self.authorization = ""
        self.traceparent: str | None = None
        given = ""
        metadata: Iterable[tuple[str, Any]] = context.invocation_metadata() or ()
        for key, value in metadata:
            if key == "authorization":
                self.authorization = str(value)
            elif key == "traceparent":
                self.traceparent = str(value)
            elif key == "x-request-id":
                given = str(value)
        self.request_id = request_id_of(given)

    def remaining_seconds(self) -> float | None:
        """Return how long the caller still waits, None when it set no deadline."""
        remaining: float | None = self.context.time_remaining()
        return remaining


_rpc: contextvars.ContextVar[Rpc | None] = contextvars.ContextVar("trunkline_rpc", default=None)


def current_rpc() -> Rpc | None:
    """Return the RPC that this task serves, None outside of one."""
    return _rpc.get()


def set_rpc(rpc: Rpc | None) -> None:
    """Make this the RPC of the task; every RPC has a task of its own."""
    _rpc.set(rpc)
