"""Tells who holds an API key or an operator token by asking the tenant service, and remembers briefly."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import grpc
from cachetools import LRUCache, TLRUCache

from trunkline_runtime.api.resources import tenant_of
from trunkline_runtime.errors import Unauthenticated, Unavailable, from_rpc_error
from trunkline_runtime.flights import Flights
from trunkline_runtime.identity.callers import OPERATOR, Caller, CallerKind, Role
from trunkline_runtime.rpc.channels import Channels, unconfined

# A revoked key has to stop within 5 s everywhere, also where the answer was on its way for a moment.
KNOWN_SECONDS = 4.0
REFUSED_SECONDS = 5.0
KEY_PREFIX = "tl_"
"""What API keys and operators' tokens begin with. Tokens of the suite's services begin otherwise."""
_ASK_SECONDS = 3.0
_MOST_REMEMBERED = 10_000
# Of tokens that were never good here: so many are asked about at once, and so many are in hand with those that wait.
_STRANGERS_AT_ONCE = 8
_STRANGERS_MOST = 200
# The tenant service says these only to whoever holds the key's true secret.
_OF_HOLDERS = frozenset({"KEY_EXPIRED", "KEY_REVOKED", "TENANT_SUSPENDED"})


class Authenticator(Protocol):
    """Tells who holds a token."""

    async def authenticate(self, token: str) -> Caller:
        """Return who holds a `tl_...` token. Raises Unauthenticated or Unavailable."""


class _Answer(NamedTuple):
    told: Caller | Unauthenticated
    until: float


def _until(_key: bytes, answer: _Answer, _now: float) -> float:
    return answer.until


class CachingAuthenticator:
    """Remembers another authenticator's answers by the token's hash: 4 s who holds it, 5 s that nobody does.

    Of several calls with the same token at a time one asks, and the others wait for its answer. Tokens that were never
    good here take turns, so a flood of guesses doesn't delay the callers whose tokens were.
    """

    def __init__(self, ask: Authenticator, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._answers: TLRUCache[bytes, _Answer] = TLRUCache(_MOST_REMEMBERED, ttu=_until, timer=clock)
        self._flights: Flights[bytes, Caller] = Flights()
        self._proved: LRUCache[bytes, None] = LRUCache(_MOST_REMEMBERED)
        self._strangers: set[bytes] = set()
        self._turns = asyncio.Semaphore(_STRANGERS_AT_ONCE)

    async def authenticate(self, token: str) -> Caller:
        """Return who holds the token. Raises Unauthenticated, or Unavailable, also while too many unknown ones wait."""
        key = hashlib.sha256(token.encode()).digest()
        known = self._answers.get(key)
        if known is None:
            if key in self._proved:
                return await self._flights.run(key, lambda: self._find(key, token))
            return await self._find_stranger(key, token)
        if isinstance(known.told, Caller):
            return known.told
        raise Unauthenticated(known.told.message, reason=known.told.reason)

    async def _find_stranger(self, key: bytes, token: str) -> Caller:
        if key not in self._strangers and len(self._strangers) >= _STRANGERS_MOST:
            message = "too many unknown credentials are being checked; try again"
            raise Unavailable(message, reason="AUTHENTICATION_BUSY", retry_after=1.0)
        self._strangers.add(key)

        async def find() -> Caller:
            try:
                async with self._turns:
                    return await self._find(key, token)
            finally:
                self._strangers.discard(key)

        return await self._flights.run(key, find)

    async def _find(self, key: bytes, token: str) -> Caller:
        began = self._clock()  # the answer may be as old as the question
        try:
            caller = await self._ask.authenticate(token)
        except Unauthenticated as refused:
            self._answers[key] = _Answer(refused, self._clock() + REFUSED_SECONDS)
            self._proved.pop(key, None)
            raise
        self._answers[key] = _Answer(caller, began + KNOWN_SECONDS)
        self._proved[key] = None
        return caller


class TenantServiceAuthenticator:
    """Asks trunkline.tenant.v1.ApiKeyService/Authenticate."""

    def __init__(self, channels: Channels, tenant_address: str) -> None:
        self._channels = channels
        self._address = tenant_address

    async def authenticate(self, token: str) -> Caller:
        """Return who holds the token. Raises Unauthenticated or Unavailable."""
        from trunkline.tenant.v1 import api_key_service_pb2 as messages  # noqa: PLC0415 -- only who asks needs them
        from trunkline.tenant.v1.api_key_service_pb2_grpc import ApiKeyServiceStub  # noqa: PLC0415

        stub = ApiKeyServiceStub(self._channels.get(self._address))
        try:
            with unconfined():
                answer = await stub.Authenticate(
                    messages.AuthenticateRequest(token=token), timeout=_ASK_SECONDS
                )
        except grpc.RpcError as error:
            cause = from_rpc_error(error)
            if cause.code is grpc.StatusCode.UNAUTHENTICATED and cause.reason in _OF_HOLDERS:
                raise Unauthenticated(cause.message, reason=cause.reason) from error
            if cause.code in (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.INVALID_ARGUMENT,
            ) and _about_token(cause.reason):
                raise Unauthenticated(
                    "the credentials are not valid", reason="CREDENTIALS_INVALID"
                ) from error
            raise Unavailable(
                "authentication is temporarily unavailable",
                reason="AUTHENTICATION_UNAVAILABLE",
                retry_after=1.0,
            ) from error
        if answer.operator:
            return OPERATOR
        return Caller(
            CallerKind.API_KEY,
            tenant=tenant_of(answer.tenant),
            role=Role(answer.role),
            subject=answer.api_key.rpartition("/")[2],
        )


def _about_token(reason: str) -> bool:
    """Tell a refusal of the token that was asked about from a refusal of our own service token."""
    return reason not in ("TOKEN_INVALID", "TOKEN_EXPIRED", "CREDENTIALS_MISSING")
