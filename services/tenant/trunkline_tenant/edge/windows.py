"""Counts requests in sliding windows of an hour: in Redis for all replicas, or in this process."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trunkline_runtime import redis
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter

log = get_logger(__name__)

MOST_KEYS = 20_000
"""What is counted in this process at once; past it all counts begin anew, which is kinder than to grow."""
# After Redis failed, so long it is not asked.
_REST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Count:
    """What a window says after a request: whether it held, what is left, and the seconds until there is more."""

    granted: int
    limit: int
    remaining: int
    reset_seconds: float


class Windows:
    """Counts by name and key. While Redis can't be asked, each replica counts by itself."""

    def __init__(
        self,
        url: str | None = None,
        *,
        most_keys: int = MOST_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url` is that of a Redis, such as redis://127.0.0.1:6379/0."""
        self._url = url
        self._most_keys = most_keys
        self._clock = clock
        self._rest_until = float("-inf")
        self._shared: Any = None
        self._own: Any = None
        self._failed = counter(
            "trunkline_rates_redis_failures_total", "Times that Redis could not be asked for a rate"
        )

    async def take(self, name: str, key: str, limit: int, wanted: int, *, least: int) -> Count:
        """Take up to `wanted` requests out of `limit` an hour, at least `least` or none."""
        if self._url is not None and self._clock() >= self._rest_until:
            try:
                if self._shared is None:
                    self._shared = _sliding(_redis_storage(self._url))
                return await _take(self._shared, name, key, limit, wanted, least)
            except Exception as error:
                if not redis.is_failure(error):
                    raise
                self._failed.inc()
                self._rest_until = self._clock() + _REST_SECONDS
                log.warning("rates_redis_failed", kind=type(error).__name__)
        return await _take(self._in_process(), name, key, limit, wanted, least)

    async def warm(self) -> None:
        """Import what counting needs, beside the requests that are served: the first count need not wait for it."""
        await asyncio.to_thread(importlib.import_module, "limits.aio.strategies")

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._shared is not None:
            await self._shared.storage.bridge.storage.aclose()

    def _in_process(self) -> Any:
        if self._own is not None and len(self._own.storage.storage) > self._most_keys:
            _forget(self._own.storage)
            if len(self._own.storage.storage) > self._most_keys:
                self._own = None
        if self._own is None:
            self._own = _sliding(_memory_storage())
        return self._own


async def _take(windows: Any, name: str, key: str, limit: int, wanted: int, least: int) -> Count:
    from limits import RateLimitItemPerHour  # noqa: PLC0415 -- who is never asked need not pay

    item = RateLimitItemPerHour(limit)
    granted = 0
    if limit:
        granted = wanted if await windows.hit(item, name, key, cost=wanted) else 0
        if not granted and least < wanted:
            left = (await windows.get_window_stats(item, name, key)).remaining
            some = min(left, wanted)
            if some >= least and await windows.hit(item, name, key, cost=some):
                granted = some
    now = time.time()
    stats = await windows.get_window_stats(item, name, key)
    # To the library a window ends where the next request fits; no less than a moment, no more than the hour.
    reset = min(max(stats.reset_time - now, 0.0), 3600.0) if limit else 3600.0
    return Count(granted, limit, stats.remaining if limit else 0, reset)


def _forget(storage: Any) -> None:
    """Drop the keys whose window is over."""
    now = time.time()
    for key in [key for key, until in storage.expirations.items() if until <= now]:
        for held in (storage.storage, storage.expirations, storage.locks):
            held.pop(key, None)


def _sliding(storage: Any) -> Any:
    from limits.aio.strategies import SlidingWindowCounterRateLimiter  # noqa: PLC0415 -- as above

    return SlidingWindowCounterRateLimiter(storage)


def _memory_storage() -> Any:
    from limits.aio.storage import MemoryStorage  # noqa: PLC0415 -- as above

    storage = MemoryStorage()
    # It would look at every key after every request. What is over is forgotten above, when the keys are many.
    storage.timer = asyncio.get_running_loop().create_future()  # type: ignore[assignment]
    return storage


def _redis_storage(url: str) -> Any:
    from limits.aio.storage import RedisStorage  # noqa: PLC0415 -- as above

    return RedisStorage(
        f"async+{url}",
        implementation="redispy",
        key_prefix="trunkline",
        **redis.options(),
    )
