"""What every outgoing call gets: identity, request id, trace, a deadline, and its count in the metrics.

Calls with one request and one answer, which are nearly all, are made by a callable of our own: an interceptor of
gRPC's costs each of them a task and two further call objects. Streams have interceptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.metrics import RpcMetrics
from trunkline_runtime.rpc.call import current_rpc

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

    def _told(self, given: Any) -> Any:
        """Return the metadata of a call, with what its caller gave."""
        metadata: Any = grpc.aio.Metadata(*(given or ()))
        if "authorization" not in metadata:
            metadata.add("authorization", self._authorization())
        rpc = current_rpc()
        if rpc is not None and "x-request-id" not in metadata:
            metadata.add("x-request-id", rpc.request_id)
        place = tracing.current()
        if place is not None and "traceparent" not in metadata:
            metadata.add("traceparent", place.traceparent)
        return metadata

    def _seconds(self, timeout: float | None) -> float:
        """Return a call's deadline: as asked, else the usual one, within what our own caller still waits."""
        if timeout is not None:
            return timeout
        rpc = current_rpc()
        remaining = rpc.remaining_seconds() if rpc is not None else None
        return self._deadline if remaining is None else max(0.0, min(self._deadline, remaining))

    def _prepare(self, details: Any) -> tuple[Any, str]:
        method = details.method if isinstance(details.method, str) else details.method.decode()
        metadata, timeout = self._told(details.metadata), self._seconds(details.timeout)
        return details._replace(metadata=metadata, timeout=timeout), method

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


class UnaryUnary(_Outgoing):
    """A method with one request and one answer: `await method(request, timeout=3)`. Raises grpc.aio.AioRpcError.

    `failed` is told of each error.
    """

    def __init__(
        self,
        method: str,
        ask: Callable[..., Any],
        authorization: Authorization,
        metrics: RpcMetrics,
        failed: Callable[[grpc.aio.AioRpcError], None] | None = None,
    ) -> None:
        super().__init__(authorization, metrics, DEADLINE_SECONDS)
        self._failed = failed
        self._method = method
        self._ask = ask

    async def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        **options: Any,
    ) -> Any:
        """Make the call; giving up waiting cancels it."""
        began = time.perf_counter()
        code = grpc.StatusCode.CANCELLED
        self._metrics.began(self._method)
        try:
            with tracing.client_span(self._method) as span:
                try:
                    answer = await self._ask(
                        request, timeout=self._seconds(timeout), metadata=self._told(metadata), **options
                    )
                    code = grpc.StatusCode.OK
                    return answer
                except grpc.aio.AioRpcError as error:
                    code, failed = error.code(), error
                    # Raised below: the span would record the exception, words and all.
                    if span is not None:
                        span.failed(code.name)
            if self._failed is not None:
                self._failed(failed)
            raise failed
        finally:
            took = time.perf_counter() - began
            self._metrics.ended(self._method, code.name, took, tracing.exemplar())


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


def stream_interceptors(
    authorization: Authorization, metrics: RpcMetrics
) -> list[grpc.aio.ClientInterceptor]:
    """Return a channel's interceptors for streams; `authorization` gives the header's value for each call."""
    return [
        StreamUnary(authorization, metrics, STREAM_DEADLINE_SECONDS),
        UnaryStream(authorization, metrics, STREAM_DEADLINE_SECONDS),
        StreamStream(authorization, metrics, STREAM_DEADLINE_SECONDS),
    ]


_counting: set[asyncio.Future[None]] = set()


def _keep(future: asyncio.Future[None]) -> None:
    """Hold a task until it is done: the loop itself holds it only weakly."""
    _counting.add(future)
    future.add_done_callback(_counting.discard)
