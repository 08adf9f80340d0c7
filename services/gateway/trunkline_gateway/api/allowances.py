"""The hourly limits of API requests, when no Envoy has counted them: taken from the tenant service a few at a time.

What a request takes is at hand nearly always, so that few requests wait for an answer. While the tenant service can't
be asked, nothing is refused: it could not say who calls, either, and a cached answer is good for seconds only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from cachetools import LRUCache
from trunkline.tenant.v1 import rate_service_pb2 as messages
from trunkline.tenant.v1.rate_service_pb2_grpc import RateServiceStub
from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.flights import Flights
from trunkline_runtime.forms import is_loopback_host
from trunkline_runtime.identity.callers import Caller, CallerKind
from trunkline_runtime.rpc.channels import Channels, unconfined

from trunkline_gateway.api.credentials import Shown
from trunkline_gateway.api.problems import problem
from trunkline_gateway.http_errors import Header, retry_after

Ask = Callable[[messages.TakeRequestsRequest], Awaitable[messages.TakeRequestsResponse]]
"""Takes requests from a limit. Raises grpc.RpcError."""
Authenticate = Callable[[bytes | None], Awaitable[Shown]]

_Key = tuple[int, str, str]
_MOST_KEPT = 10_000
_MOST_OPERATORS = 100
# What was taken in advance is used within so long, or lost.
_KEPT_SECONDS = 60.0
_ASK_SECONDS = 1.0
# After a failure, so long nobody asks; and the longest that a refusal is given without asking.
_REST_SECONDS = 1.0


@dataclass(slots=True)
class _Held:
    """What is at hand of one limit; `limit` is None where nothing limits."""

    limit: int | None
    tokens: int
    remaining: int
    reset_at: float
    until: float
    refused: bool = False


class Allowances:
    """What is at hand of every limit, in this process."""

    def __init__(self, ask: Ask, *, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._held: LRUCache[_Key, _Held] = LRUCache(_MOST_KEPT)
        self._flights: Flights[_Key, None] = Flights()
        # Hashes of the headers that operators showed: their address may be over its limit.
        self._operators: LRUCache[bytes, None] = LRUCache(_MOST_OPERATORS)

    async def admit(
        self, authenticate: Authenticate, header: bytes | None, client: str, route: str
    ) -> tuple[Shown, tuple[Header, ...]]:
        """Return who asks, and the headers that tell its limits; take the request from them.

        Raises what `authenticate` does, and HttpProblem 429. An operator has no limits, and this machine's own
        addresses are nobody's. An address over its limit is refused before its credentials are looked at, unless
        they were an operator's.
        """
        of_address = _of_address(client, route)
        for key in of_address:
            held = self._held.get(key)
            if (
                held is not None
                and held.refused
                and self._clock() < held.until
                and not self._is_operator(header)
            ):
                raise self._refusal(held)
        try:
            shown = await authenticate(header)
        except Unauthenticated:
            await self._take_all(of_address)
            raise
        if shown.caller.kind is CallerKind.OPERATOR:
            self._operators[_hash(header)] = None
            return shown, ()
        return shown, await self._take_all([*of_address, *_of_caller(shown.caller, route)])

    async def admit_anybody(self, client: str, route: str) -> tuple[Header, ...]:
        """Return the headers that tell an address's limit; take a request from it that needs no credentials.

        Raises HttpProblem 429.
        """
        return await self._take_all(_of_address(client, route))

    def _is_operator(self, header: bytes | None) -> bool:
        return _hash(header) in self._operators

    async def _take_all(self, keys: list[_Key]) -> tuple[Header, ...]:
        taken = [held for key in keys if (held := await self._take(key)).limit is not None]
        if not taken:
            return ()
        return self._headers(min(taken, key=lambda held: held.remaining + held.tokens))

    async def _take(self, key: _Key) -> _Held:
        while True:
            held = self._held.get(key)
            if held is not None and self._clock() < held.until:
                if held.limit is None:
                    return held
                if held.refused:
                    raise self._refusal(held)
                if held.tokens:
                    held.tokens -= 1
                    return held
            await self._flights.run(key, lambda: self._fetch(key))

    async def _fetch(self, key: _Key) -> None:
        now = self._clock()
        request = messages.TakeRequestsRequest(
            kind=messages.RateKind.ValueType(key[0]), subject=key[1], route=key[2]
        )
        try:
            got = await self._ask(request)
        except grpc.RpcError:
            self._held[key] = _Held(None, 0, 0, 0.0, now + _REST_SECONDS)
            return
        seconds = got.reset.seconds + got.reset.nanos / 1e9
        if not got.HasField("limit"):
            self._held[key] = _Held(None, 0, 0, 0.0, now + _KEPT_SECONDS)
        elif got.granted:
            held = _Held(got.limit, got.granted, got.remaining, now + seconds, now + _KEPT_SECONDS)
            self._held[key] = held
        else:
            until = now + min(seconds, _REST_SECONDS)
            self._held[key] = _Held(
                got.limit, 0, 0, now + seconds, max(until, self._clock() + 0.05), refused=True
            )

    def _headers(self, held: _Held) -> tuple[Header, ...]:
        reset = max(1, math.ceil(held.reset_at - self._clock()))
        return (
            (b"ratelimit-limit", str(held.limit).encode()),
            (b"ratelimit-remaining", str(held.remaining + held.tokens).encode()),
            (b"ratelimit-reset", str(reset).encode()),
        )

    def _refusal(self, held: _Held) -> Exception:
        return problem(
            429,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RATE_LIMIT",
            f"the limit is {held.limit} requests an hour; try again later",
            *self._headers(held),
            retry_after(held.reset_at - self._clock()),
        )


def asking(channels: Channels, tenant_address: str) -> Ask:
    """Return what asks the tenant service."""

    async def ask(request: messages.TakeRequestsRequest) -> messages.TakeRequestsResponse:
        with unconfined():
            stub: Any = RateServiceStub(channels.get(tenant_address))
            answer: messages.TakeRequestsResponse = await stub.TakeRequests(request, timeout=_ASK_SECONDS)
            return answer

    return ask


async def admitted(
    allowances: Allowances | None,
    authenticate: Authenticate,
    header: bytes | None,
    scope: Mapping[str, Any],
    route: str,
) -> tuple[Shown, tuple[Header, ...]]:
    """Return who asks, and what its limits are, if they are counted here. Raises as Allowances.admit does."""
    if allowances is None:
        return await authenticate(header), ()
    client = scope.get("client") or ("", 0)
    return await allowances.admit(authenticate, header, str(client[0]), route)


def _hash(header: bytes | None) -> bytes:
    return hashlib.sha256(header or b"").digest()


def _of_address(client: str, route: str) -> list[_Key]:
    return [] if not client or is_loopback_host(client) else [(messages.RATE_KIND_ADDRESS, client, route)]


def _of_caller(caller: Caller, route: str) -> list[_Key]:
    if not caller.is_of_tenant or not caller.tenant:
        return []
    keys: list[_Key] = [(messages.RATE_KIND_TENANT, caller.tenant, route)]
    if caller.kind is CallerKind.USER and caller.subject:
        # First: a user over its own limit takes nothing of its tenant's.
        keys.insert(0, (messages.RATE_KIND_USER, f"{caller.tenant}/{caller.subject}"[:200], route))
    return keys
