"""Tokens that services show each other, each signed with its service's own key."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity.callers import Caller, CallerKind, Role
from trunkline_runtime.identity.keys import KeyFolder, service_of

LIFETIME_SECONDS = 300
VOUCH = frozenset({"gateway", "tenant"})
"""The services whose tokens can speak for a user or an API key: one asks who holds a key, the other one says."""
_RENEW_BEFORE_SECONDS = 60
_LEEWAY_SECONDS = 30
_MOST_CACHED = 2048


class TokenSigner:
    """Signs and verifies the suite's tokens (JWT, EdDSA, minutes to live).

    `keys` is the folder of keys.py. Raises ConfigError when it lacks the keys of `service`.
    """

    def __init__(self, keys: Path, service: str, *, clock: Callable[[], float] = time.time) -> None:
        self.service = service
        self._keys = KeyFolder(keys, service)
        self._trusted = self._keys.trusted()
        self._clock = clock
        self._signed: LRUCache[tuple[str, ...], tuple[str, float]] = LRUCache(_MOST_CACHED)
        self._verified: LRUCache[str, tuple[Caller, float]] = LRUCache(_MOST_CACHED)

    def service_token(self, tenant: str | None = None) -> str:
        """Return a token that says: this service, confined to a tenant when one is given."""
        return self._sign({"kind": CallerKind.SERVICE.value, "sub": self.service, "tenant": tenant or ""})

    def tenant_token(self, caller: Caller) -> str:
        """Return a token that says: this user or API key, vouched for by this service. Raises ValueError for others."""
        if not (caller.is_of_tenant and caller.subject and caller.tenant and caller.role):
            raise ValueError(f"a tenant token is for a tenant's user or API key, not for {caller}")
        return self._sign(
            {
                "kind": caller.kind.value,
                "sub": caller.subject,
                "tenant": caller.tenant,
                "role": caller.role.name,
            }
        )

    def secret(self) -> str:
        """Return a text that only this service knows, until its key is rotated."""
        return self._keys.own().key.private_bytes_raw().hex()  # type: ignore[no-any-return]

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
        payload = {**claims, "iss": self.service, "iat": int(now), "exp": int(expires)}
        own = self._keys.own()
        token = jwt.encode(payload, own.key, algorithm="EdDSA", headers={"kid": own.key_id})
        self._signed[cached] = (token, expires)
        return token

    def _decode(self, token: str, now: float) -> tuple[Caller, float]:
        import jwt  # noqa: PLC0415 -- as above

        trusted = self._keys.trusted()
        if trusted is not self._trusted:
            # A key may be gone: what was verified under it counts no more.
            self._trusted = trusted
            self._verified.clear()
        try:
            kid = jwt.get_unverified_header(token)["kid"]
            # Times are compared below, with the clock that was injected.
            claims = jwt.decode(
                token,
                trusted[kid].key,
                algorithms=["EdDSA"],
                issuer=service_of(kid),
                options={"require": ["exp", "iss", "kind", "sub"], "verify_exp": False, "verify_iat": False},
            )
            caller, expires = _caller(claims), float(claims["exp"]) + _LEEWAY_SECONDS
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            raise Unauthenticated("the token is not valid", reason="TOKEN_INVALID") from None
        if now >= expires:
            raise Unauthenticated("the token has expired", reason="TOKEN_EXPIRED")
        return caller, expires


def _caller(claims: dict[str, Any]) -> Caller:
    """Return who verified claims speak for: the service that signed, or a tenant's caller. Raises ValueError."""
    subject, tenant = str(claims["sub"]), str(claims.get("tenant") or "") or None
    caller = Caller(CallerKind(claims["kind"]), subject, tenant)
    if caller.kind is CallerKind.SERVICE and subject == claims["iss"]:
        return caller
    if caller.is_of_tenant and subject and tenant and claims["iss"] in VOUCH:
        return replace(caller, role=Role[claims["role"]])
    raise ValueError("kind")
