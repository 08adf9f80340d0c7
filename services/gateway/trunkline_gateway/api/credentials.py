"""Tells who makes an HTTP request, and what the RPC made of it shows for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity.callers import ANONYMOUS, Caller
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.authenticator import Authenticator

_TOKEN = re.compile(rb"tl_[A-Za-z0-9._~+/=-]{1,253}")
# What Envoy shows instead of a key, once the tenant service has minted it.
_MINTED = re.compile(rb"eyJ[A-Za-z0-9_-]{1,600}\.[A-Za-z0-9_-]{1,600}\.[A-Za-z0-9_-]{1,200}")


@dataclass(frozen=True, slots=True)
class Shown:
    """Who is asking, and the authorization that the services are shown for them."""

    caller: Caller
    authorization: str


NOBODY = Shown(ANONYMOUS, "")


class Credentials:
    """Reads `Authorization: Bearer tl_...`, or the tenant token that Envoy shows instead of a key.

    The suite's other tokens are for gRPC between services only.
    """

    def __init__(self, authenticator: Authenticator, signer: TokenSigner) -> None:
        self._authenticator = authenticator
        self._signer = signer

    async def __call__(self, header: bytes | None) -> Shown:
        """Return who is asking. Raises Unauthenticated; Unavailable when nobody can tell.

        A user or an API key becomes a tenant token of minutes to live, so that no lasting credentials travel inside;
        an operator's token is handed on, because no service may mint an operator.
        """
        if header is None:
            raise Unauthenticated(
                "credentials are required: Authorization: Bearer tl_...", reason="CREDENTIALS_MISSING"
            )
        scheme, _, token = header.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            raise Unauthenticated("the authorization must be: Bearer <token>", reason="CREDENTIALS_MALFORMED")
        if _MINTED.fullmatch(token):
            return self._minted(token.decode("ascii"))
        if not _TOKEN.fullmatch(token):
            raise Unauthenticated("the credentials are not valid", reason="CREDENTIALS_INVALID")
        text = token.decode("ascii")
        caller = await self._authenticator.authenticate(text)
        if caller.is_of_tenant:
            return Shown(caller, f"Bearer {self._signer.tenant_token(caller)}")
        return Shown(caller, f"Bearer {text}")

    def _minted(self, token: str) -> Shown:
        try:
            caller = self._signer.verify(token)
        except Unauthenticated:
            caller = ANONYMOUS
        if not caller.is_of_tenant:
            raise Unauthenticated("the credentials are not valid", reason="CREDENTIALS_INVALID")
        return Shown(caller, f"Bearer {self._signer.tenant_token(caller)}")
