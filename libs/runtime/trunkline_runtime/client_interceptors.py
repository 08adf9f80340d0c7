"""What every outgoing call gets: identity, request id, trace, a deadline, and its count in the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from trunkline_runtime import tracing
from trunkline_runtime.metrics import RpcMetrics
from trunkline_runtime.rpc import current_rpc

DEADLINE_SECONDS = 10.0
STREAM_DEADLINE_SECONDS = 600.0

Details = grpc.aio.ClientCallDetails
Authorization = Callable[[], str]


class _Outgoing:
    """The part that all four kinds of call share."""

    def __init__(self, authorization: Authorization, metrics: RpcMetrics, deadline: float) -> None:
        self._authorization = authorization
        self._metrics = metrics
        self._deadline = deadline

    def _prepare(self, details: Any) -> tuple[Any, str]:
        method = details.method if isinstance(details.method, str) else details.method.decode()
        metadata: Any = grpc.aio.Metadata(*(details.metadata or ()))
        if "authorization" not in metadata:
            metadata.add("authorization", self._authorization())
        rpc = current_rpc()
        if rpc is not None and "x-request-id" not in metadata:
            metadata.add("x-request-id", rpc.request_id)
        place = tracing.current()
        if place is not None and "traceparent" not in metadata:
            metadata.add("traceparent", place.traceparent)
        timeout = details.timeout
        if timeout is None:
            timeout = self._deadline
            remaining = rpc.remaining_seconds() if rpc is not None else None
            if remaining is not None:
                timeout = max(0.0, min(timeout, remaining))
        return details._replace(metadata=metadata, timeout=timeout), method

    async def _one(self, continuation: Any, details: Any, request: Any) -> Any:
        """Make a call with one answer, and count it when the answer is there."""
        method = details.method if isinstance(details.method, str) else details.method.decode()
        began = time.perf_counter()
        code = grpc.StatusCode.CANCELLED
        self._metrics.began(method)
        try:
            with tracing.client_span(method) as span:
                details, _ = self._prepare(details)
                call = await continuation(details, request)
                try:
                    code = await call.code()
                except asyncio.CancelledError:
                    # Waiting for the code is ours; giving up must reach the call itself.
                    call.cancel()
                    raise
                if span is not None and code is not grpc.StatusCode.OK:
                    span.failed(code.name)
                return call
        finally:
            self._metrics.ended(method, code.name, time.perf_counter() - began)

    async def _many(self, continuation: Any, details: Any, request: Any) -> Any:
        """Make a call with a stream of answers, and count it when the stream ends."""
        began = time.perf_counter()
        details, method = self._prepare(details)
        self._metrics.began(method)
        try:
            call = await continuation(details, request)
        except BaseException:
            self._metrics.ended(method, grpc.StatusCode.UNKNOWN.name, time.perf_counter() - began)
            raise

        async def count() -> None:
            code = grpc.StatusCode.UNKNOWN
            with contextlib.suppress(Exception):
                code = await call.code()
            self._metrics.ended(method, code.name, time.perf_counter() - began)

        call.add_done_callback(lambda _call: _keep(asyncio.ensure_future(count())))
        return call


class UnaryUnary(_Outgoing, grpc.aio.UnaryUnaryClientInterceptor):
    """One request, one answer."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Details, request: Any
    ) -> Any:
        """Make the call."""
        return await self._one(continuation, client_call_details, request)


class StreamUnary(_Outgoing, grpc.aio.StreamUnaryClientInterceptor):
    """Many requests, one answer."""

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Details, request_iterator: Any
    ) -> Any:
        """Make the call; its count ends with the stream, requests may be written after this returns."""
        return await self._many(continuation, client_call_details, request_iterator)


class UnaryStream(_Outgoing, grpc.aio.UnaryStreamClientInterceptor):
    """One request, many answers."""

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Details, request: Any
    ) -> Any:
        """Make the call."""
        return await self._many(continuation, client_call_details, request)


class StreamStream(_Outgoing, grpc.aio.StreamStreamClientInterceptor):
    """Many requests, many answers."""

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Details, request_iterator: Any
    ) -> Any:
        """Make the call."""
        return await self._many(continuation, client_call_details, request_iterator)


def client_interceptors(authorization: Authorization) -> list[grpc.aio.ClientInterceptor]:
    """Return the interceptors of a channel; `authorization` gives the header's value for each call."""
    metrics = RpcMetrics("client")
    return [
        UnaryUnary(authorization, metrics, DEADLINE_SECONDS),
        StreamUnary(authorization, metrics, STREAM_DEADLINE_SECONDS),
        UnaryStream(authorization, metrics, STREAM_DEADLINE_SECONDS),
        StreamStream(authorization, metrics, STREAM_DEADLINE_SECONDS),
    ]


_counting: set[asyncio.Future[None]] = set()


def _keep(future: asyncio.Future[None]) -> None:
    """Hold a task until it is done: the loop itself holds it only weakly."""
    _counting.add(future)
    future.add_done_callback(_counting.discard)
