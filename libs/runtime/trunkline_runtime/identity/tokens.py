"""Tokens that services show each other, signed with the suite's key."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cachetools import LRUCache

from trunkline_runtime import forms
from trunkline_runtime.config import ConfigError
from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity.callers import Caller, CallerKind, Role

LIFETIME_SECONDS = 300
_RENEW_BEFORE_SECONDS = 60
_LEEWAY_SECONDS = 30
_MOST_CACHED = 2048
_LEAST_KEY_BYTES = 32


def key_bytes(suite_key: str) -> bytes:
    """Return the bytes of a suite key written as hex or base64url. Raises ConfigError under 32 bytes."""
    try:
        return forms.key_bytes(suite_key)
    except ValueError as error:
        raise ConfigError(f"the suite key {error}") from None


class TokenSigner:
    """Signs and verifies the suite's tokens (JWT, HS256, minutes to live). ConfigError for a bad key."""

    def __init__(self, suite_key: str, service: str, *, clock: Callable[[], float] = time.time) -> None:
        self.service = service
        self._key = key_bytes(suite_key)
        self._clock = clock
        self._signed: LRUCache[tuple[str, ...], tuple[str, float]] = LRUCache(_MOST_CACHED)
        self._verified: LRUCache[str, tuple[Caller, float]] = LRUCache(_MOST_CACHED)

    def service_token(self, tenant: str | None = None) -> str:
        """Return a token that says: this service, confined to a tenant when one is given."""
        return self._sign({"kind": "service", "sub": self.service, "tenant": tenant or ""})

    def tenant_token(self, tenant: str, role: Role, *, key_id: str = "") -> str:
        """Return a token that says: a caller of this tenant with this role, vouched for by this service."""
        if not tenant:
            raise ValueError("a tenant token needs a tenant")
        return self._sign({"kind": "tenant", "sub": key_id, "tenant": tenant, "role": role.name})

    def verify(self, token: str) -> Caller:
        """Return who a token speaks for. Raises Unauthenticated when it is not ours, changed or expired."""
        now = self._clock()
        known = self._verified.get(token)
        if known is not None and now < known[1]:
            return known[0]
        caller, expires = self._decode(token, now)
        self._verified[token] = (caller, expires)
        return caller

    def _sign(self, claims: dict[str, str]) -> str:
        import jwt  # noqa: PLC0415 -- it brings cryptography along; a process that never signs need not pay

        now = self._clock()
        cached = tuple(claims.values())
        known = self._signed.get(cached)
        if known is not None and now < known[1] - _RENEW_BEFORE_SECONDS:
            return known[0]
        expires = now + LIFETIME_SECONDS
        payload: dict[str, Any] = {
            **claims,
            "iss": "trunkline",
            "by": self.service,
            "iat": int(now),
            "exp": int(expires),
        }
        token = jwt.encode(payload, self._key, algorithm="HS256")
        self._signed[cached] = (token, expires)
        return token

    def _decode(self, token: str, now: float) -> tuple[Caller, float]:
        import jwt  # noqa: PLC0415 -- as above

        try:
            # Times are compared below, with the clock that was injected.
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                issuer="trunkline",
                options={"require": ["exp", "iss", "kind"], "verify_exp": False, "verify_iat": False},
            )
            caller, expires = _caller(claims), float(claims["exp"]) + _LEEWAY_SECONDS
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            raise Unauthenticated("the token is not valid", reason="TOKEN_INVALID") from None
        if now >= expires:
            raise Unauthenticated("the token has expired", reason="TOKEN_EXPIRED")
        return caller, expires


def _caller(claims: dict[str, Any]) -> Caller:
    tenant = str(claims.get("tenant") or "") or None
    if claims["kind"] == "service":
        return Caller(CallerKind.SERVICE, service=str(claims["sub"]), tenant=tenant)
    if claims["kind"] == "tenant" and tenant:
        return Caller(
            CallerKind.API_KEY, tenant=tenant, role=Role[claims["role"]], key_id=claims.get("sub") or None
        )
    raise ValueError("kind")
