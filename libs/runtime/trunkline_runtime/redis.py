"""Redis, where replicas share what each can do without: how long it is waited for, and which errors are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

SECONDS = 0.25
"""How long Redis is waited for: what it holds can be had without it."""


def options() -> dict[str, Any]:
    """Return how a client connects. It never repeats a command by itself: a caller's breaker counts each failure."""
    from redis.asyncio.retry import Retry  # noqa: PLC0415 -- only where a Redis is named
    from redis.backoff import NoBackoff  # noqa: PLC0415 -- as above

    return {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS, "retry": Retry(NoBackoff(), 0)}


def client(url: str) -> Redis:
    """Return a client of `redis://host:port/number`, which connects at its first command. For the loop that runs."""
    from redis.asyncio import Redis  # noqa: PLC0415 -- as above

    made: Redis = Redis.from_url(url, **options())
    return made


def is_failure(error: BaseException) -> bool:
    """Tell whether Redis could not be asked, or answered with an error."""
    if isinstance(error, OSError):  # a time-out too
        return True
    from redis.exceptions import RedisError  # noqa: PLC0415 -- as above

    return isinstance(error, RedisError)
