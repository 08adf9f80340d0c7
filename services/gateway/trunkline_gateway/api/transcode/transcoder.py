"""The ASGI application that answers HTTP requests by calling RPCs, as their google.api.http rules say."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import grpc
import grpc.aio
from trunkline.tenant.v1 import tenant_pb2, tenant_service_pb2
from trunkline_runtime.errors import NotFound
from trunkline_runtime.identity.access import Rule
from trunkline_runtime.identity.callers import ANONYMOUS, CallerKind
from trunkline_runtime.observe import logs, tracing
from trunkline_runtime.rpc import guard
from trunkline_runtime.rpc.call import request_id_of

from trunkline_gateway.api.allowances import Allowances, admitted
from trunkline_gateway.api.answered import ANSWERED, NO_RPC, TOOK
from trunkline_gateway.api.credentials import Shown
from trunkline_gateway.api.problems import JSON, HttpProblem, Problems, problem
from trunkline_gateway.api.transcode.bindings import Binding
from trunkline_gateway.api.transcode.intake import (
    MOST_BODY_BYTES,
    ApiRequest,
    Gone,
    Metadata,
    check_of,
    content,
    headers_of,
    rated,
    raw_path,
    unless_gone,
)
from trunkline_gateway.api.transcode.reader import read
from trunkline_gateway.api.transcode.router import Allowed, PathRouter, RouteMatch
from trunkline_gateway.api.transcode.shapes import Field
from trunkline_gateway.api.transcode.streams import Relay, Streams, aside, written
from trunkline_gateway.api.transcode.writer import Write, event, writer
from trunkline_gateway.edge.answers import Receive, Scope, Send
from trunkline_gateway.hooks.limits import Buckets
from trunkline_gateway.http_errors import Header
from trunkline_gateway.json_bounds import is_heavy

Backend = Callable[[str], grpc.aio.Channel]
"""The channel to the service of a proto package."""
Authenticate = Callable[[bytes | None], Awaitable[Shown]]
"""Tells who shows this Authorization header."""

CALL_SECONDS = 30.0
STREAM_SECONDS = 600.0
_TENANT_PACKAGE = "trunkline.tenant.v1"
# So many bytes of an answer count as one more request.
_TOKEN_BYTES = 64 * 1024
# And so many parts, however small: what it takes to write each.
_TOKEN_PARTS = 20


Answer = tuple[int, bytes | None, tuple[Header, ...]]
"""The status, the body and the headers of an answer; without a body it was sent already."""


class Transcoder:
    """Answers what its router knows.

    `rules` is the access table: who may not call a method is told so before the body is read; the services
    check it again. `rates` holds the requests of each tenant's callers, and the bytes of their answers, to a
    measure; None to none; `allowances` hold each caller to its hourly limits.
    `documents` are JSON documents by path, made when first asked for, that anybody may read.
    `call_seconds` is the deadline of a call, and of the body to arrive; `stream_seconds` that of a call with a stream
    of answers. A stream of a tenant's that goes over its measure rests (`sleep`).
    """

    def __init__(
        self,
        router: PathRouter[Binding],
        backend: Backend,
        authenticate: Authenticate,
        *,
        rules: Mapping[str, Rule],
        rates: Buckets | None = None,
        allowances: Allowances | None = None,
        documents: Mapping[str, Callable[[], bytes]] | None = None,
        most_body_bytes: int = MOST_BODY_BYTES,
        call_seconds: float = CALL_SECONDS,
        stream_seconds: float = STREAM_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._router = router
        self._backend = backend
        self._authenticate = authenticate
        self._rules = rules
        self._rates = rates
        self._allowances = allowances
        self._documents = dict(documents or {})
        self._tags: dict[str, bytes] = {}
        self._most_body_bytes = most_body_bytes
        self._call_seconds = call_seconds
        self._stream_seconds = stream_seconds
        self._sleep = sleep
        self._calls: dict[tuple[str, Field | None, bool], tuple[Any, Write]] = {}
        self._problems = Problems()
        self._streams = Streams()

    def stop(self) -> None:
        """End the streams that are open: the process is about to stop. Other requests are served as before."""
        self._streams.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        headers = headers_of(scope)
        request_id = request_id_of(headers.get(b"x-request-id", b"").decode("latin-1"))
        rpc, exemplar = NO_RPC, None
        make = self._documents.get(scope["path"])
        if make is not None and scope["method"] == "GET":
            answer = await self._document(make, scope, headers)
            await self._send(send, request_id, *answer)
            return
        try:
            binding, values = self._route(scope)
            rpc = binding.rpc
            logs.bind(request_id=request_id, method=rpc)
            asked = ApiRequest(binding, values, scope, headers, receive, send, request_id)
            # First, so that of requests without a valid credential nothing is exported.
            asked.shown, asked.limits = await admitted(
                self._allowances, self._authenticate, headers.get(b"authorization"), scope, "api"
            )
            trace = headers.get(b"traceparent")
            with tracing.edge_span(rpc, trace.decode("latin-1") if trace else None, "api") as span:
                exemplar = tracing.exemplar()
                status, body, more = await self._answer(asked)
                if span is not None and status >= 400:
                    span.failed(str(status))
        except Gone:
            return
        except Exception as error:
            status, body, more = self._problems.answer(error, ANONYMOUS)
        ANSWERED.labels(rpc, str(status)).inc()
        TOOK.labels(rpc).observe(time.perf_counter() - began, exemplar)
        if body is not None:
            await self._send(send, request_id, status, body, more)

    async def _send(
        self, send: Send, request_id: str, status: int, body: bytes, more: tuple[Header, ...]
    ) -> None:
        headers = [*more, (b"x-request-id", request_id.encode())]
        if status != HTTPStatus.NOT_MODIFIED:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _document(
        self, make: Callable[[], bytes], scope: Scope, headers: Mapping[bytes, bytes]
    ) -> tuple[int, bytes, tuple[Header, ...]]:
        """Return the answer to a request for a document: it is of its address, and not sent to a client that has it."""
        client = scope.get("client") or ("", 0)
        limits: tuple[Header, ...] = ()
        if self._allowances is not None:
            try:
                limits = await self._allowances.admit_anybody(str(client[0]), "api")
            except HttpProblem as over:
                return self._problems.answer(over, ANONYMOUS)
        body = make()
        tag = self._tags.get(scope["path"])
        if tag is None:
            tag = self._tags[scope["path"]] = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
        more = ((b"etag", tag), *limits)
        if tag in headers.get(b"if-none-match", b""):
            return HTTPStatus.NOT_MODIFIED, b"", more
        return HTTPStatus.OK, body, (JSON, *more)

    def _route(self, scope: Scope) -> tuple[Binding, dict[str, str]]:
        found: RouteMatch[Binding] | Allowed | None
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

    async def _answer(self, asked: ApiRequest) -> Answer:
        binding = asked.binding
        try:
            request = await self._request(asked)
            if binding.streams:
                return await self._stream(asked, request)
            rule, by_operator = self._rules.get(asked.rpc), asked.shown.caller.kind is CallerKind.OPERATOR
            if rule and by_operator and _works_on_a_list(binding, rule):
                await self._check_tenant(getattr(request, rule.resource), asked.metadata)
            call, write = self._prepared(binding)
            calling = call(request, metadata=asked.metadata, timeout=self._call_seconds)
            response = await unless_gone(calling, asked.receive)
            if rule and by_operator and _is_empty_list(binding, rule, response):
                await self._check_tenant(getattr(request, rule.resource), asked.metadata)
            headers, answer = await written(write, response)
            if self._rates is not None and asked.rated and len(answer) >= _TOKEN_BYTES:
                self._rates.charge(asked.rated, len(answer) // _TOKEN_BYTES)
            return 200, answer, (*headers, *asked.limits)
        except Gone:
            raise
        except Exception as error:
            return self._problems.answer(error, asked.shown.caller)

    async def _request(self, asked: ApiRequest) -> Any:
        """Return the request of the RPC, once it is clear that its caller may make it."""
        binding, headers = asked.binding, asked.headers
        caller = asked.shown.caller
        asked.rated = rated(self._rates, caller)
        rule = self._rules.get(asked.rpc)
        if rule is not None:
            guard.admit(caller, asked.rpc, rule)
        body = await content(
            headers,
            asked.receive,
            check=check_of(binding),
            most=self._most_body_bytes,
            seconds=self._call_seconds,
        )
        kind = headers.get(b"content-type", b"")
        query = asked.scope["query_string"]
        request = await aside(is_heavy(body), read, binding, asked.values, query, body, kind)
        if rule is not None:
            guard.confine(caller, asked.rpc, rule, request)
        return request

    async def _stream(self, asked: ApiRequest, request: Any) -> Answer:
        """Send an answer of several messages. Raises what its service says before the first one."""
        binding, events = asked.binding, asked.wants_events
        if events and binding.resumes and not request.cursor:
            request.cursor = asked.headers.get(b"last-event-id", b"").decode("latin-1")
        call, write = self._prepared(binding, events)

        def told(error: Exception) -> tuple[int, bytes | None]:
            status, line, _ = self._problems.answer(error, asked.shown.caller)
            if events:
                return status, event(line + b"\n", kind="error")
            return status, None if binding.gives_bytes else line + b"\n"

        relay = Relay(
            asked.send,
            empty=write(binding.response_class())[0],
            more=((b"x-request-id", asked.request_id.encode()), *asked.limits),
            pay=lambda size: self._pay(asked.rated, size),
            told=told,
        )
        with self._streams.entered(relay):
            calling = call(request, metadata=asked.metadata, timeout=self._stream_seconds)
            last = await unless_gone(relay.pass_on(calling, write), asked.receive)
        if last.body is not None:
            await asked.send({"type": "http.response.body", "body": last.body})
        return last.status, None, ()

    async def _pay(self, tenant: str, size: int) -> None:
        """Take a part of an answer from what its tenant may ask, and rest while that is overdrawn."""
        if self._rates is None or not tenant:
            return
        self._rates.charge(tenant, max(size / _TOKEN_BYTES, 1 / _TOKEN_PARTS))
        rest = self._rates.wait(tenant)
        if rest:
            await self._sleep(rest)

    async def _check_tenant(self, parent: str, metadata: Metadata) -> None:
        """Raise what GetTenant answers of a list's parent: an empty list and no such tenant look alike, also to replay.

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

    def _prepared(self, binding: Binding, events: bool = False) -> tuple[Any, Write]:
        key = (binding.rpc, binding.response_body, events)
        known = self._calls.get(key)
        if known is not None:
            return known
        channel = self._backend(binding.package)
        make: Any = channel.unary_stream if binding.streams else channel.unary_unary
        call = make(
            binding.rpc,
            request_serializer=binding.request_class.SerializeToString,
            response_deserializer=binding.response_class.FromString,
        )
        prepared = self._calls[key] = (call, writer(binding, events=events))
        return prepared


def _works_on_a_list(binding: Binding, rule: Rule) -> bool:
    """Say whether a method does something to what a filter of a tenant's matches, such as ReplayEvents."""
    return rule.scans and bool(rule.resource) and "/List" not in binding.rpc


def _is_empty_list(binding: Binding, rule: Rule, response: Any) -> bool:
    """Say whether an answer is a list of a tenant's, with nothing in it."""
    return bool(rule.resource) and "/List" in binding.rpc and response.ByteSize() == 0
