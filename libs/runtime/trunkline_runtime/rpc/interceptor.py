"""The one server interceptor: what happens around every call, in order, for all four kinds of handler.

request id and log context -> metrics -> identity -> trace -> errors -> access -> the message -> validation -> the
handler. One interceptor runs all of it: each further one costs every call a layer of coroutines.

A stream of requests is confined by its first message, which is read before its handler begins: the tenant that it
names is the caller's, and no later message names another. So no handler of ours speaks before its caller.

To gRPC every method takes a stream of requests: it hands the one message of any other method over together with the
call, so that a stranger's 32 MiB would be read before anybody asked who sent them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing, suppress
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from trunkline_runtime.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    TrunklineError,
    Unavailable,
    coded,
    from_rpc_error,
)
from trunkline_runtime.errors.wire import to_status, to_trailers
from trunkline_runtime.identity.access import OPEN_PREFIXES, Rule
from trunkline_runtime.identity.access.rules import MOST_REQUEST_BYTES
from trunkline_runtime.identity.callers import ANONYMOUS, Caller, set_caller
from trunkline_runtime.observe import logs, tracing
from trunkline_runtime.observe.metrics import RpcMetrics
from trunkline_runtime.process import machine
from trunkline_runtime.rpc import guard
from trunkline_runtime.rpc.authenticator import KEY_PREFIX
from trunkline_runtime.rpc.call import Rpc, set_rpc
from trunkline_runtime.rpc.crowds import Crowds
from trunkline_runtime.rpc.refusals import RefusalLog
from trunkline_runtime.rpc.scans import Scans

log = logs.get_logger(__name__)

Identify = Callable[[str], Awaitable[Caller]]
Validate = Callable[[Any], None]
Translate = Callable[[Exception], TrunklineError | None]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

# Of an answer that another service gave us, these say something of us or of it, not of our caller.
_OURS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
_MESSAGE_SECONDS = 30.0
_MOST_OPEN_BYTES = 4_096  # of health and reflection: names
# Of one stream that anybody may open: what describes all services of the suite several times over.
_MOST_OPEN_MESSAGES = 1_000
OPEN_SECONDS = 60.0
"""How long a stream lasts that anybody may open."""
_LOUD = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each method's handler once and keeps it, unless further interceptors follow (`keep=False`).

    `peers`: connections are mutual TLS, and each caller is held against the certificate of its connection.
    """

    def __init__(
        self,
        *,
        identify: Identify,
        rules: Mapping[str, Rule],
        validate: Validate,
        scans: Scans,
        crowds: Crowds,
        translate: Translate | None = None,
        keep: bool = True,
        open_seconds: float = OPEN_SECONDS,
        peers: bool = False,
    ) -> None:
        self._peers = peers
        self._identify = identify
        self._rules = rules
        self._validate = validate
        self._scans = scans
        self._crowds = crowds
        self._translate = translate
        self._refusals = RefusalLog("rpc_refused", "rpc_failed")
        self._metrics = RpcMetrics("server")
        self._keep = keep
        self._open_seconds = open_seconds
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler with everything around it; unknown methods stay unknown."""
        method: str = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        open_to_all = method.startswith(OPEN_PREFIXES)
        wrapped = self._bound(method, handler) if open_to_all else self._wrap(method, handler)
        if self._keep:
            self._wrapped[method] = wrapped
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        rule = self._rules.get(method)
        most = rule.most_bytes if rule is not None else MOST_REQUEST_BYTES
        behaviour = _behaviour(handler)

        async def one(_requests: Any, context: Any) -> Any:
            return await self._serve(Rpc(method, context), rule, handler, behaviour)

        return _handed_over(handler, one, most)

    def _bound(self, method: str, handler: Handler) -> Handler:
        """Wrap a method that anybody may call: what a stranger sends is small, and a message, or is refused."""
        behaviour = _behaviour(handler)
        lasts = handler.response_streaming

        async def one(request: Any, context: Any) -> Any:
            rpc = Rpc(method, context)
            try:
                with self._crowds.of_address(context, lasts=lasts):
                    if not lasts:
                        return await behaviour(await _message(rpc), context)
                    async with asyncio.timeout(self._open_seconds):
                        given = _few(request) if handler.request_streaming else await _message(rpc)
                        return await _send(behaviour(given, context), context)
            except TimeoutError:
                late = DeadlineExceeded("open another stream to go on", reason="STREAM_TOO_LONG")
                await self._refuse(rpc, late)
            except DecodeError:
                await self._refuse(rpc, _no_message())
            except TrunklineError as refused:
                await self._refuse(rpc, refused)

        return _handed_over(handler, one, _MOST_OPEN_BYTES)

    async def _serve(self, rpc: Rpc, rule: Rule | None, handler: Handler, behaviour: Any) -> Any:
        set_rpc(rpc)
        began = time.perf_counter()
        code = grpc.StatusCode.CANCELLED
        exemplar = None
        self._metrics.began(rpc.method)
        try:
            logs.bind(request_id=rpc.request_id, method=rpc.method)
            refused = await self._identified(rpc)
            with _span(rpc) as span:
                exemplar = tracing.exemplar()
                try:
                    if refused is not None:
                        raise refused
                    answer = await self._handle(rpc, rule, handler, behaviour)
                    code = _code_set(rpc.context)
                    return answer
                except grpc.aio.AbortError:
                    code = _code_set(rpc.context)
                    raise
                except Exception as cause:
                    code = await self._refuse(rpc, cause)
                finally:
                    if span is not None and code is not grpc.StatusCode.OK:
                        # The error becomes a status here, so that nothing above sees an exception to record.
                        span.failed(code.name)
        finally:
            self._metrics.ended(rpc.method, code.name, time.perf_counter() - began, exemplar)

    async def _identified(self, rpc: Rpc) -> Exception | None:
        """Find out who calls: whose trace goes on depends on it. Returns why that is not known, to be answered."""
        if rpc.authorization:
            try:
                rpc.caller = await self._identify(rpc.authorization)
            except Exception as error:
                return error
        return None

    async def _handle(self, rpc: Rpc, rule: Rule | None, handler: Handler, behaviour: Any) -> Any:
        set_caller(rpc.caller)
        if self._peers:
            guard.admit_peer(_names_of_peer(rpc.context), rpc.caller, rpc.method)
        rule = guard.admit(rpc.caller, rpc.method, rule)
        with self._crowds.of_tenant(rpc.caller):
            return await self._answer(rpc, rule, handler, behaviour)

    async def _answer(self, rpc: Rpc, rule: Rule, handler: Handler, behaviour: Any) -> Any:
        context = rpc.context
        first = await _message(rpc)
        tenant = guard.confine(rpc.caller, rpc.method, rule, first)
        logs.bind(**rpc.caller.facts(), tenant=tenant)
        self._validate(first)
        if rule.scans:
            async with self._scans.turn(rpc.caller, tenant, is_list="/List" in rpc.method):
                return await behaviour(first, context)
        request = first
        if handler.request_streaming:

            def check(message: Any) -> None:
                guard.confine(rpc.caller, rpc.method, rule, message, tenant=tenant)
                self._validate(message)

            context = _CheckedContext(context, first, check)
            request = _requests(context)
        answer = behaviour(request, context)
        return await (_send(answer, context) if handler.response_streaming else answer)

    async def _refuse(self, rpc: Rpc, cause: Exception) -> grpc.StatusCode:
        """Answer with the status of an error, and return its code."""
        error = self._domain_error(cause)
        if error.code in _LOUD:
            log.error("rpc_failed", code=error.code.name, reason=error.reason, exc_info=cause)
        else:
            self._refusals.note(error, rpc.caller)
        status = to_status(error, request_id=rpc.request_id)
        # InternalError: the caller went meanwhile.
        with suppress(grpc.aio.AbortError, grpc.aio.InternalError):
            await rpc.context.abort(error.code, status.message, to_trailers(status))
        return error.code

    def _domain_error(self, cause: Exception) -> TrunklineError:
        if isinstance(cause, TrunklineError):
            return cause
        translated = self._translate(cause) if self._translate is not None else None
        translated = translated or coded.domain_error(cause) or machine.unavailable(cause)
        if translated is not None:
            return translated
        if isinstance(cause, grpc.RpcError):
            error = from_rpc_error(cause)
            if error.code is grpc.StatusCode.CANCELLED:
                return Unavailable("a required service cancelled the request", reason="UPSTREAM_CANCELLED")
            if error.code is grpc.StatusCode.UNAVAILABLE and error.reason == error.code.name:
                # gRPC's own text names addresses of ours.
                message = "a required service is unreachable"
                return Unavailable(message, reason="UPSTREAM_UNAVAILABLE", retry_after=1.0)
            return Internal(f"upstream: {error.message}") if error.code in _OURS else error
        if isinstance(cause, TimeoutError):
            return DeadlineExceeded("the request took too long")
        return Internal(str(cause))


def _span(rpc: Rpc) -> AbstractContextManager[Any]:
    """Return the span of a call: in its caller's trace only where that is a service's, or is shown by one.

    Who holds a key is outside: it could join anybody's trace, and have all of its calls exported. Of a caller that is
    not known nothing is exported.
    """
    if rpc.caller is ANONYMOUS:
        return tracing.server_span(rpc.method, None)
    if rpc.authorization.partition(" ")[2].lstrip().startswith(KEY_PREFIX):
        return tracing.edge_span(rpc.method, rpc.traceparent, "rpc")
    return tracing.server_span(rpc.method, rpc.traceparent)


def _behaviour(handler: Handler) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _handed_over(handler: Handler, behaviour: Any, most: int) -> Handler:
    """Return a handler that reads its requests itself, of at most so many bytes each."""
    parse: Any = handler.request_deserializer or bytes

    def deserialise(data: bytes) -> Any:
        if len(data) > most:
            raise ResourceExhausted(f"the request is larger than {most} bytes", reason="REQUEST_TOO_LARGE")
        return parse(data)

    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return make(behaviour, request_deserializer=deserialise, response_serializer=handler.response_serializer)


def _no_message() -> InvalidArgument:
    return InvalidArgument("request", "is not a message of this method", reason="BAD_MESSAGE")


async def _message(rpc: Rpc) -> Any:
    """Read the first message of a request, from a caller that has been let in. Raises DeadlineExceeded."""
    try:
        seconds = rpc.remaining_seconds()
        if seconds is not None and seconds < _MESSAGE_SECONDS:  # gRPC ends the call in time
            message = await rpc.context.read()
        else:
            async with asyncio.timeout(_MESSAGE_SECONDS):
                message = await rpc.context.read()
    except DecodeError:
        raise _no_message() from None
    except TimeoutError:
        raise DeadlineExceeded("the request did not arrive in time", reason="REQUEST_TOO_SLOW") from None
    if message is grpc.aio.EOF:
        raise InvalidArgument("request", "is missing", reason="BAD_MESSAGE")
    return message


async def _send(answers: Any, context: Any) -> None:
    """Send what a streaming handler yields; one that writes to the context itself is only waited for."""
    if not hasattr(answers, "__aiter__"):
        await answers
        return
    if not hasattr(answers, "aclose"):
        async for answer in answers:
            await _write(answer, context)
        return
    async with aclosing(answers):
        async for answer in answers:
            await _write(answer, context)


async def _write(answer: Any, context: Any) -> None:
    """Send one message. A caller that went while it was on its way has cancelled the call: nothing here failed."""
    try:
        await context.write(answer)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None


async def _few(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Give the messages of a stream that anybody may open. Raises ResourceExhausted after so many."""
    count = 0
    async for message in messages:
        count += 1
        if count > _MOST_OPEN_MESSAGES:
            raise ResourceExhausted(
                f"a stream takes {_MOST_OPEN_MESSAGES} messages; open another one to go on",
                reason="STREAM_TOO_LONG",
            )
        yield message


class _CheckedContext:
    """The context of a stream of requests: `read` gives the first, which was checked, and checks later ones."""

    def __init__(self, context: Any, first: Any, check: Validate) -> None:
        self._context = context
        self._first = first
        self._check = check

    async def read(self) -> Any:
        message, self._first = self._first, None
        if message is not None:
            return message
        try:
            message = await self._context.read()
        except DecodeError:
            raise _no_message() from None
        if message is not grpc.aio.EOF:
            self._check(message)
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _requests(context: _CheckedContext) -> AsyncIterator[Any]:
    while (message := await context.read()) is not grpc.aio.EOF:
        yield message


def _names_of_peer(context: Any) -> list[str]:
    names = context.auth_context().get("x509_subject_alternative_name", ())
    return [name.decode("utf-8", "replace") for name in names]


def _code_set(context: Any) -> grpc.StatusCode:
    """Return the code that a handler set itself; OK when it set none."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return _BY_NUMBER.get(code or 0, grpc.StatusCode.UNKNOWN)


_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
