"""Answers in Redis, for all replicas. What is there is sealed: a value that this service did not write is none.

| key | what |
|---|---|
| `trunkline:ai:TENANT:answer:KEY` | an answer, sealed for this very key |
| `trunkline:ai:TENANT:call:CALL` | the keys of the answers that served a call |
| `trunkline:ai:erased` | tenants, calls, and answers that were erased or dropped, by time: other replicas look there |

The names of keys hold digests of tenants and calls; the marks of erasures hold their ids. The key of an answer derives
from the words and from the service's secret (keys.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from trunkline_runtime import redis
from trunkline_runtime.breakers import Breakers, CircuitOpen
from trunkline_runtime.digests import digest, letters
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter

from trunkline_ai.cache.answers import Answer, BrokenAnswer

log = get_logger(__name__)
T = TypeVar("T")

_PREFIX = "trunkline:ai"
_ERASED = f"{_PREFIX}:erased"
_SERVICE = "redis"
_NONCE_BYTES = 12
_FAILURES, _REST_SECONDS = 3, 5.0
_A_LOOK = 500
_failed = counter(
    "trunkline_ai_cache_redis_failures_total", "Times that Redis could not be asked for answers"
)
_broken = counter(
    "trunkline_ai_cache_broken_total", "Values in Redis that were none of this service's answers"
)
_written = counter("trunkline_ai_cache_redis_bytes_total", "Bytes of answers that were written to Redis")


class SharedAnswers:
    """Keeps answers in the Redis at `url` for `seconds` each.

    While Redis can't be asked nothing is there, and nothing is kept. Three failures in a row leave it alone for five
    seconds. `secret` is a text that all replicas of this service know, and nobody else; `clock` is of Unix seconds.
    """

    def __init__(
        self, url: str, seconds: float, secret: Callable[[], str], clock: Callable[[], float]
    ) -> None:
        self._url = url
        self._seconds = seconds
        self._secret = secret
        self._clock = clock
        self._client: Any = None
        self._breakers = Breakers(_FAILURES, _REST_SECONDS, (_SERVICE,), outage=redis.is_failure)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def get(self, tenant: str, key: bytes, call: str) -> Answer | None:
        """Return an answer, and note that it serves a call."""
        name = _answer(tenant, key)

        async def ask() -> bytes | None:
            async with self._redis().pipeline(transaction=False) as pipe:
                pipe.get(name)
                self._noted(pipe, tenant, key, call)
                found: bytes | None = (await pipe.execute())[0]
            return found

        sealed = await self._asked(ask, None)
        if sealed is None:
            return None
        try:
            answer = Answer.unpacked(self._opened(name, sealed))
        except BrokenAnswer:
            _broken.inc()
            return None
        return answer if answer.made_at + self._seconds > self._clock() else None

    async def put(self, tenant: str, key: bytes, call: str, answer: Answer) -> None:
        """Keep an answer, unless its tenant or its call was erased meanwhile."""
        left = answer.made_at + self._seconds - self._clock()
        if left < 1:
            return
        name = _answer(tenant, key)
        sealed = self._sealed(name, answer.packed())

        async def ask() -> None:
            client = self._redis()
            async with client.pipeline(transaction=False) as pipe:
                pipe.set(name, sealed, ex=int(left))
                self._noted(pipe, tenant, key, call)
                # Looked at behind it: an erasure that begins later finds what was written.
                pipe.zscore(_ERASED, mark(tenant))
                pipe.zscore(_ERASED, mark(tenant, call))
                if any((await pipe.execute())[-2:]):
                    await client.unlink(name, _call(tenant, call))
                    return
            _written.inc(len(sealed))

        await self._asked(ask, None)

    async def serves(self, tenant: str, key: bytes, call: str) -> None:
        """Note that an answer served a call."""

        async def ask() -> None:
            async with self._redis().pipeline(transaction=False) as pipe:
                self._noted(pipe, tenant, key, call)
                await pipe.execute()

        await self._asked(ask, None)

    async def forget(
        self,
        tenant: str,
        calls: Collection[str] | None,
        known: Collection[bytes] = (),
        *,
        for_good: bool = True,
    ) -> list[bytes] | None:
        """Let go of what served these calls of a tenant, or of all that is the tenant's; None if it may be there yet.

        Returns the keys of what served the calls; the caller knows some of them. The marks come first: what a replica
        is about to keep is not kept, unless it isn't `for_good`, and its memory lets go at its next look.
        """

        async def ask() -> list[bytes]:
            client = self._redis()
            if calls is None:
                await self._mark(client, [mark(tenant)])
                await self._unlink_all(client, tenant)
                return []
            await self._mark(client, [mark(tenant, call, for_good=for_good) for call in calls])
            found = set(known)
            for call in calls:
                found.update(await client.smembers(_call(tenant, call)))
            await self._mark(client, [mark_of_key(key) for key in found])
            names = [*(_call(tenant, call) for call in calls), *(_answer(tenant, key) for key in found)]
            if names:
                await client.unlink(*names)
            return list(found)

        return await self._asked(ask, None)

    async def erased(self, since: float) -> list[tuple[str, float]]:
        """Return the marks of what was erased from a time on, with their times."""

        async def ask() -> list[tuple[str, float]]:
            found = await self._redis().zrangebyscore(_ERASED, since, "+inf", withscores=True)
            return [(one.decode("utf-8", "replace"), at) for one, at in found]

        return await self._asked(ask, [])

    async def _mark(self, client: Any, marks: list[str]) -> None:
        if not marks:
            return
        now = self._clock()
        async with client.pipeline(transaction=False) as pipe:
            pipe.zadd(_ERASED, dict.fromkeys(marks, now))
            pipe.zremrangebyscore(_ERASED, "-inf", now - 2 * self._seconds)
            pipe.expire(_ERASED, int(2 * self._seconds) + 1)
            await pipe.execute()

    @staticmethod
    async def _unlink_all(client: Any, tenant: str) -> None:
        names: list[bytes] = []
        async for name in client.scan_iter(match=f"{_PREFIX}:{_named(tenant)}:*", count=_A_LOOK):
            names.append(name)
            if len(names) >= _A_LOOK:
                await client.unlink(*names)
                names = []
        if names:
            await client.unlink(*names)

    def _redis(self) -> Any:
        if self._client is None:
            self._client = redis.client(self._url)
        return self._client

    async def _asked(self, ask: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """Ask, within the breaker."""
        try:
            return await self._breakers.call(_SERVICE, ask)
        except CircuitOpen:
            return otherwise
        except Exception as error:
            if not redis.is_failure(error):
                raise
            _failed.inc()
            log.warning("cache_redis_failed", kind=type(error).__name__)
            return otherwise

    def _noted(self, pipe: Any, tenant: str, key: bytes, call: str) -> None:
        if call:
            name = _call(tenant, call)
            pipe.sadd(name, key)
            pipe.expire(name, int(self._seconds) + 1)

    def _box(self) -> AESGCM:
        # The secret is the base of signatures too: this purpose has a key of its own.
        return AESGCM(digest("cached answers", self._secret()))

    def _sealed(self, name: str, packed: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._box().encrypt(nonce, packed, name.encode())

    def _opened(self, name: str, sealed: bytes) -> bytes:
        try:
            return self._box().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):  # too short for a nonce
            raise BrokenAnswer from None


def _named(*parts: str | bytes) -> str:
    return letters(digest("cached", *parts), 32)


def _answer(tenant: str, key: bytes) -> str:
    return f"{_PREFIX}:{_named(tenant)}:answer:{letters(key, 52)}"


def _call(tenant: str, call: str) -> str:
    return f"{_PREFIX}:{_named(tenant)}:call:{_named(tenant, call)}"


def mark(tenant: str, call: str | None = None, *, for_good: bool = True) -> str:
    """Return the mark of an erasure of a call, or of all that is the tenant's. Marks have ids and no words.

    One that is not `for_good` is of a call whose answers were dropped, and which may be asked about again.
    """
    if call is None:
        return tenant
    return f"{tenant}/{call}" if for_good else f"~{tenant}/{call}"


def mark_of_key(key: bytes) -> str:
    """Return the mark of one answer that was erased."""
    return f"={key.hex()}"


def key_of_mark(text: str) -> bytes | None:
    """Return the key that a mark names, None for any other text."""
    with contextlib.suppress(ValueError):
        return bytes.fromhex(text[1:]) if text.startswith("=") else None
    return None  # somebody else wrote it: the marks behind it are to be read all the same


def erasure_of_mark(text: str) -> tuple[str, list[str] | None, bool]:
    """Return the tenant of a mark, its call in a list or None for all that is the tenant's, and if it is for good."""
    tenant, slash, call = text.removeprefix("~").partition("/")
    return tenant, [call] if slash else None, not text.startswith("~")
