"""envoy.service.auth.v3.Authorization: Envoy authenticates callers here, and gets the token that the services verify.

What a caller may do, the services' interceptors decide as ever. A request without credentials passes: the service
that it is for says what is missing, or serves what needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity.callers import Caller, CallerKind
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe.metrics import counter
from trunkline_runtime.rpc.authenticator import Authenticator

from trunkline_tenant.edge.answers import Headers, add_unary, error_body, headers_of, over_limit, sentence_of
from trunkline_tenant.edge.rates import ADDRESS, EdgeRates
from trunkline_tenant.keys.service import EDGE_PREFIX, PREFIX

if TYPE_CHECKING:
    from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse

SERVICE = "envoy.service.auth.v3.Authorization"
_MOST_TOKEN = 256
_JSON = ("content-type", "application/json")


class Authorization:
    """Answers Check.

    What it found out of a caller is in the answer's dynamic metadata, for the descriptors of limits: `limited` of
    everybody but operators, `tenant` and `plan` of a tenant's callers, and `user` of users.
    """

    def __init__(self, authenticator: Authenticator, signer: TokenSigner, rates: EdgeRates) -> None:
        self._authenticator = authenticator
        self._signer = signer
        self._rates = rates
        self._checked = counter("trunkline_edge_checked_total", "Requests that Envoy asked about", ["caller"])

    async def Check(self, request: CheckRequest, context: object) -> CheckResponse:
        """Tell whether a request's credentials are good, and what it shows instead of them."""
        attributes = request.attributes
        http = attributes.request.http if attributes and attributes.request else None
        headers = http.headers if http is not None else {}
        given = headers.get("authorization", "")
        if not given:
            self._checked.labels("anonymous").inc()
            return _passed({"limited": "yes"})
        try:
            caller = await self._caller(given)
        except Unauthenticated as refused:
            self._checked.labels("refused").inc()
            return await self._refused(request, headers.get("content-type", ""), refused)
        self._checked.labels(caller.kind.value).inc()
        if not caller.is_of_tenant:
            return _passed({})
        assert caller.tenant is not None
        facts = {
            "limited": "yes",
            "tenant": caller.tenant,
            "plan": await self._rates.plan_name(caller.tenant),
        }
        if caller.kind is CallerKind.USER and caller.subject:
            facts["user"] = caller.subject
        return _passed(facts, self._signer.tenant_token(caller))

    async def _caller(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("the authorization must be: Bearer <token>", reason="CREDENTIALS_MALFORMED")
        # Tokens of services, and those that are made here, do not come from outside.
        if not token.startswith(PREFIX) or token.startswith(EDGE_PREFIX) or len(token) > _MOST_TOKEN:
            raise Unauthenticated("the credentials are not valid", reason="CREDENTIALS_INVALID")
        return await self._authenticator.authenticate(token)

    async def _refused(self, request: CheckRequest, kind: str, refused: Unauthenticated) -> CheckResponse:
        """Refuse credentials. Envoy does not count what is refused here, so that guesses are counted here."""
        address, route = _sender(request)
        is_grpc = kind.startswith("application/grpc")
        count = await self._rates.take(ADDRESS, address, route) if address else None
        if count is not None and not count.granted:
            over = grpc.StatusCode.RESOURCE_EXHAUSTED
            if is_grpc:
                # Of 429, Envoy itself would make UNAVAILABLE.
                status = ("grpc-status", str(over.value[0]))
                return _denied(429, over, [status, *headers_of(count)], sentence_of(count).encode())
            return _denied(429, over, [_JSON, *headers_of(count)], over_limit(count))
        challenge = ("www-authenticate", 'Bearer realm="trunkline", error="invalid_token"')
        code = grpc.StatusCode.UNAUTHENTICATED
        if is_grpc:
            return _denied(401, code, [challenge], refused.message.encode())
        body = error_body(401, code, refused.reason, refused.message)
        return _denied(401, code, [_JSON, challenge], body)


def add_to_server(servicer: Authorization, server: grpc.aio.Server) -> None:
    """Serve it."""
    from envoy_data_plane.envoy.service.auth import v3  # noqa: PLC0415 -- only whom Envoy asks pays 0.5 s

    add_unary(server, SERVICE, "Check", servicer.Check, v3.CheckRequest)


def _sender(request: CheckRequest) -> tuple[str, str]:
    """Return the address that a request came from, and its route; empty what is not known."""
    if request.attributes is None:
        return "", ""
    source = request.attributes.source
    place = source.address.socket_address if source and source.address else None
    return (place.address if place is not None else ""), request.attributes.context_extensions.get(
        "route", ""
    )


def _passed(facts: dict[str, str], token: str = "") -> CheckResponse:
    from envoy_data_plane.envoy.service.auth import v3  # noqa: PLC0415 -- as above
    from envoy_data_plane.google.protobuf import Struct, Value  # noqa: PLC0415 -- as above
    from envoy_data_plane.google.rpc import Status  # noqa: PLC0415 -- as above

    headers = _options([("authorization", f"Bearer {token}")]) if token else []
    return v3.CheckResponse(
        status=Status(code=0),
        ok_response=v3.OkHttpResponse(headers=headers),
        dynamic_metadata=Struct(fields={name: Value(string_value=value) for name, value in facts.items()}),
    )


def _denied(http: int, code: grpc.StatusCode, headers: Headers, body: bytes) -> CheckResponse:
    from envoy_data_plane.envoy.service.auth import v3  # noqa: PLC0415 -- as above
    from envoy_data_plane.envoy.type import v3 as types  # noqa: PLC0415 -- as above
    from envoy_data_plane.google.rpc import Status  # noqa: PLC0415 -- as above

    denied = v3.DeniedHttpResponse(
        status=types.HttpStatus(code=types.StatusCode(http)), headers=_options(headers), body=body.decode()
    )
    return v3.CheckResponse(status=Status(code=code.value[0]), denied_response=denied)


def _options(headers: Headers) -> list[Any]:
    from envoy_data_plane.envoy.config.core import v3  # noqa: PLC0415 -- as above

    replace = v3.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    return [
        v3.HeaderValueOption(header=v3.HeaderValue(key=name, value=value), append_action=replace)
        for name, value in headers
    ]
