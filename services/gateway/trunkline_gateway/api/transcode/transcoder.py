"""The ASGI application that answers HTTP requests by calling RPCs, as their google.api.http rules say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from trunkline.tenant.v1 import tenant_pb2, tenant_service_pb2
from trunkline_runtime.errors import NotFound, ResourceExhausted, TrunklineError, to_status
from trunkline_runtime.identity.access import Rule
from trunkline_runtime.identity.callers import ANONYMOUS, Caller, CallerKind
from trunkline_runtime.observe import logs, tracing
from trunkline_runtime.observe.metrics import counter, histogram
from trunkline_runtime.observe.repeats import Repeats
from trunkline_runtime.rpc import guard
from trunkline_runtime.rpc.call import request_id_of
from trunkline_runtime.rpc.refusals import Refusals

from trunkline_gateway.api.transcode.bindings import Binding
from trunkline_gateway.api.transcode.credentials import Shown
from trunkline_gateway.api.transcode.intake import (
    MOST_BODY_BYTES,
    Gone,
    content,
    headers_of,
    raw_path,
    unless_gone,
)
from trunkline_gateway.api.transcode.problems import HttpProblem, from_rpc, problem, render
from trunkline_gateway.api.transcode.reader import read
from trunkline_gateway.api.transcode.router import Allowed, Match, Router
from trunkline_gateway.api.transcode.writer import Write, writer
from trunkline_gateway.hooks.answers import Receive, Scope, Send
from trunkline_gateway.hooks.limits import Buckets
from trunkline_gateway.http_errors import Header
from trunkline_gateway.json_bounds import is_heavy

Backend = Callable[[str], grpc.aio.Channel]
"""The channel to the service of a proto package."""
Authenticate = Callable[[bytes | None], Awaitable[Shown]]
"""Tells who shows this Authorization header."""

log = logs.get_logger(__name__)

CALL_SECONDS = 30.0
Metadata = tuple[tuple[str, str], ...]
_TENANT_PACKAGE = "trunkline.tenant.v1"
_LARGE_BYTES = 32 * 1024
# So many bytes of an answer count as one more request.
_TOKEN_BYTES = 64 * 1024
_JSON: Header = (b"content-type", b"application/json")


class Transcoder:
    """Answers what its router knows.

    `rules` is the access table: who may not call a method is told so before the body is read; the services
    check it again. `rates` holds the requests of each tenant's keys, and the bytes of their answers, to a
    measure; None to none. `documents` are JSON documents by path, made when first asked for, that anybody may read.
    `call_seconds` is the deadline of a call, and of the body to arrive.
    """

    def __init__(
        self,
        router: Router[Binding],
        backend: Backend,
        authenticate: Authenticate,
        *,
        rules: Mapping[str, Rule],
        rates: Buckets | None = None,
        documents: Mapping[str, Callable[[], bytes]] | None = None,
        most_body_bytes: int = MOST_BODY_BYTES,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._router = router
        self._backend = backend
        self._authenticate = authenticate
        self._rules = rules
        self._rates = rates
        self._documents = dict(documents or {})
        self._most_body_bytes = most_body_bytes
        self._call_seconds = call_seconds
        self._calls: dict[str, tuple[Any, Write]] = {}
        self._refusals = Refusals("api_refused", "api_refused")
        self._failures = Repeats()
        self._answered = counter(
            "trunkline_api_requests_total", "HTTP API requests by RPC and status", ["rpc", "status"]
        )
        self._took = histogram("trunkline_api_seconds", "Seconds an HTTP API request took", ["rpc"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        headers = headers_of(scope)
        request_id = request_id_of(headers.get(b"x-request-id", b"").decode("latin-1"))
        rpc = "none"
        make = self._documents.get(scope["path"])
        if make is not None and scope["method"] == "GET":
            await self._send(send, 200, make(), request_id)
            return
        try:
            binding, values = self._route(scope)
            rpc = binding.rpc
            trace = headers.get(b"traceparent")
            with tracing.server_span(rpc, trace.decode("latin-1") if trace else None) as span:
                logs.bind(request_id=request_id, trace=tracing.trace_id(), method=rpc)
                status, body, more = await self._answer(binding, values, scope, headers, receive, request_id)
                if span is not None and status >= 400:
                    span.failed(str(status))
        except Gone:
            return
        except Exception as error:
            status, body, more = self._refusal(error, ANONYMOUS)
        self._answered.labels(rpc, str(status)).inc()
        self._took.labels(rpc).observe(time.perf_counter() - began)
        await self._send(send, status, body, request_id, *more)

    async def _send(self, send: Send, status: int, body: bytes, request_id: str, *more: Header) -> None:
        length, named = str(len(body)).encode(), request_id.encode()
        headers = [_JSON, (b"content-length", length), (b"x-request-id", named), *more]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _route(self, scope: Scope) -> tuple[Binding, dict[str, str]]:
        found: Match[Binding] | Allowed | None
        try:
            found = self._router.find(scope["method"], raw_path(scope))
        except UnicodeDecodeError:
            raise problem(
                400, grpc.StatusCode.INVALID_ARGUMENT, "BAD_PATH", "the path is not UTF-8"
            ) from None
        if found is None and scope["path"] in self._documents:
            found = Allowed(("GET",))
        if found is None:
            slash = "; paths do not end with a /" if scope["path"].endswith("/") else ""
            raise problem(404, grpc.StatusCode.NOT_FOUND, "NO_SUCH_PATH", f"the path does not exist{slash}")
        if isinstance(found, Allowed):
            methods = ", ".join(found.methods)
            raise problem(
                405, grpc.StatusCode.UNIMPLEMENTED, "NO_SUCH_METHOD", f"this path allows {methods}",
                (b"allow", methods.encode()),
            )  # fmt: skip
        return found.target, found.values

    async def _answer(
        self,
        binding: Binding,
        values: dict[str, str],
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        request_id: str,
    ) -> tuple[int, bytes, tuple[Header, ...]]:
        caller = ANONYMOUS
        try:
            shown = await self._authenticate(headers.get(b"authorization"))
            caller = shown.caller
            rated = self._rated(caller)
            rule = self._rules.get(binding.rpc)
            if rule is not None:
                guard.admit(shown.caller, binding.rpc, rule)
            takes_body = binding.whole_body or binding.body is not None
            body = await content(
                headers, receive, json=takes_body, most=self._most_body_bytes, seconds=self._call_seconds
            )
            request = await _aside(is_heavy(body), read, binding, values, scope["query_string"], body)
            if rule is not None:
                guard.confine(shown.caller, binding.rpc, rule, request)
            call, write = self._calls.get(binding.rpc) or self._prepare(binding)
            metadata = (("authorization", shown.authorization), ("x-request-id", request_id))
            response = await unless_gone(
                call(request, metadata=metadata, timeout=self._call_seconds), receive
            )
            if rule and shown.caller.kind is CallerKind.OPERATOR and _is_empty_list(binding, rule, response):
                await self._check_tenant(getattr(request, rule.resource), metadata)
            answer = await _aside(response.ByteSize() >= _LARGE_BYTES, write, response)
            if self._rates is not None and rated and len(answer) >= _TOKEN_BYTES:
                self._rates.charge(rated, len(answer) // _TOKEN_BYTES)
            return 200, answer, ()
        except Gone:
            raise
        except Exception as error:
            return self._refusal(error, caller)

    def _rated(self, caller: Caller) -> str:
        """Take a request from what its tenant may ask, and return that tenant; "" where nothing is taken.

        Raises ResourceExhausted.
        """
        if self._rates is None or caller.kind is not CallerKind.API_KEY or not caller.tenant:
            return ""
        wait = self._rates.take(caller.tenant)
        if wait:
            raise ResourceExhausted(
                "the tenant's keys ask for more than they may; try again", reason="API_RATE", retry_after=wait
            )
        return caller.tenant

    async def _check_tenant(self, parent: str, metadata: Metadata) -> None:
        """Raise what GetTenant answers of a list's parent: an empty list and no such tenant look alike.

        GetTenant still shows an operator a deleted tenant, but nothing is left of it to list.

        Only operators are asked about: the tenant of an API key is there.
        """
        get: Any = self._backend(_TENANT_PACKAGE).unary_unary(
            f"/{_TENANT_PACKAGE}.TenantService/GetTenant",
            request_serializer=tenant_service_pb2.GetTenantRequest.SerializeToString,
            response_deserializer=tenant_pb2.Tenant.FromString,
        )
        tenant = "/".join(parent.split("/")[:2])
        found = await get(
            tenant_service_pb2.GetTenantRequest(name=tenant), metadata=metadata, timeout=self._call_seconds
        )
        if found.state == tenant_pb2.TENANT_STATE_DELETED:
            raise NotFound(tenant)

    def _prepare(self, binding: Binding) -> tuple[Any, Write]:
        call: Any = self._backend(binding.package).unary_unary(
            binding.rpc,
            request_serializer=binding.request_class.SerializeToString,
            response_deserializer=binding.response_class.FromString,
        )
        prepared = self._calls[binding.rpc] = (call, writer(binding))
        return prepared

    def _refusal(self, error: Exception, caller: Caller) -> tuple[int, bytes, tuple[Header, ...]]:
        """Return the answer to an error; one that nobody expected is logged and shows nothing."""
        if isinstance(error, HttpProblem):
            status, body, headers = render(to_status(error.error), error.http)
            return status, body, (*headers, *error.headers)
        if isinstance(error, TrunklineError):
            self._refusals.note(error, caller)
            return render(to_status(error))
        if isinstance(error, grpc.RpcError):
            status, body, headers = render(from_rpc(error))
            if status >= 500:
                code, text = error.code().name, error.details()
                self._failures.note(
                    (code, caller.tenant or str(caller)),
                    lambda count: log.warning("api_call_failed", code=code, error=text, count=count),
                )
            return status, body, headers
        log.error("api_failed", exc_info=error)
        return render(to_status(error))


def _is_empty_list(binding: Binding, rule: Rule, response: Any) -> bool:
    """Say whether an answer is a list of a tenant's, with nothing in it."""
    return bool(rule.resource) and "/List" in binding.rpc and response.ByteSize() == 0


async def _aside(heavy: bool, work: Callable[..., Any], *args: Any) -> Any:
    """Do heavy work in a thread, so that a long transcript delays no webhook, and other work here."""
    return await asyncio.to_thread(work, *args) if heavy else work(*args)
