"""Work of a webhook that takes too long for the event loop: one thread does it, the tenants in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST_WAITING = 256
MOST_WAITING_BYTES = 16 << 20


class Crowded(Exception):
    """The source has so much waiting for its turn that no more is taken."""


@dataclass(slots=True)
class _Line:
    """What of one source waits, the piece in work included."""

    count: int = 0
    size: int = 0


@dataclass(slots=True)
class _WebhookTurn:
    """Whose turn it is among the webhooks of one tenant."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: int = 0


class Aside:
    """Lines of work: bounded for each source, and one piece at a time of each tenant, so that tenants take turns.

    One thread works for all: of pure Python, further ones would only take more turns from the event loop.
    """

    def __init__(self, most_waiting: int = MOST_WAITING, most_waiting_bytes: int = MOST_WAITING_BYTES):
        """Let so many pieces of work of each source wait, of so many bytes, and always one."""
        self._most = most_waiting
        self._most_bytes = most_waiting_bytes
        self._lines: dict[str, _Line] = {}
        self._turns: dict[str, _WebhookTurn] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aside")

    async def run(
        self, tenant: str, source_id: str, size: int, call: Callable[P, T], *given: P.args, **named: P.kwargs
    ) -> T:
        """Return what `call` returns, of a body of `size` bytes. Raises Crowded, and what `call` raises."""
        line = self._lines.get(source_id)
        if line is None:
            line = self._lines[source_id] = _Line()
        elif line.count >= self._most or line.size + size > self._most_bytes:
            raise Crowded
        turn = self._turns.setdefault(tenant, _WebhookTurn())
        line.count += 1
        line.size += size
        turn.asked += 1
        try:
            async with turn.lock:
                work = partial(call, *given, **named)
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            line.count -= 1
            line.size -= size
            turn.asked -= 1
            if not line.count:
                del self._lines[source_id]
            if not turn.asked:
                del self._turns[tenant]
