"""Errors as HTTP shows them: google.rpc.Status as JSON."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import json_format, message
from google.rpc import error_details_pb2, status_pb2
from trunkline_runtime.errors import (
    TABLE,
    Internal,
    ResourceExhausted,
    TrunklineError,
    Unavailable,
    to_status,
)
from trunkline_runtime.errors.wire import sent_status
from trunkline_runtime.identity.callers import Caller
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.repeats import Repeats
from trunkline_runtime.rpc.refusals import RefusalLog

from trunkline_gateway.http_errors import HTTP_STATUS, Header, error_body, retry_after

log = get_logger(__name__)

JSON: Header = (b"content-type", b"application/json")
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# What gRPC itself says without our details names addresses and internals: this is said instead.
_UNSAID = {
    grpc.StatusCode.CANCELLED: "the service cancelled the request; try again",
    grpc.StatusCode.UNAVAILABLE: "the service is temporarily unreachable; try again",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the request took too long",
    grpc.StatusCode.UNIMPLEMENTED: "the service does not have this method",
}
# How gRPC says RESOURCE_EXHAUSTED of what is too large; whatever else it says so of will pass.
_TOO_LARGE = (("message", "metadata"), ("larger than", "exceed"))
# These only a handler says, so that its words are meant for the caller.
_SAID = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
_OURS = frozenset({"TOKEN_INVALID", "TOKEN_EXPIRED", "CREDENTIALS_MISSING"})
_RETRY_SECONDS = 1.0


class HttpProblem(Exception):
    """What goes wrong before there is an RPC; `http` is the status, the rest is as in a domain error."""

    def __init__(self, http: int, error: TrunklineError, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(error.message)
        self.http = http
        self.error = error
        self.headers = headers


def problem(http: int, code: grpc.StatusCode, reason: str, text: str, *headers: Header) -> HttpProblem:
    """Make a problem from its parts."""
    return HttpProblem(http, TABLE[code].of(text, reason=reason), headers)


def from_rpc(error: grpc.RpcError) -> status_pb2.Status:
    """Return the status of a failed call as the caller may see it, details and all."""
    code: grpc.StatusCode = error.code()
    status = sent_status(error)
    if status is None:
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return to_status(
                Unavailable(_UNSAID[code], reason="SERVICE_UNAVAILABLE", retry_after=_RETRY_SECONDS)
            )
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return to_status(_exhausted(error.details() or ""))
        text = _UNSAID.get(code) or (error.details() if code in _SAID else None)
        return to_status(TABLE[code].of(text, reason=code.name) if text else Internal())
    reason = next((i.reason for i in _details(status, error_details_pb2.ErrorInfo)), "")
    if code is grpc.StatusCode.UNAUTHENTICATED and reason in _OURS:
        # The service refused our own token: nothing that the caller could mend.
        return to_status(Internal())
    return status


class Problems:
    """Answers errors, and logs them: of those that repeat a few lines and their count."""

    def __init__(self) -> None:
        self._refusals = RefusalLog("api_refused", "api_refused")
        self._failures = Repeats()

    def answer(self, error: Exception, caller: Caller) -> tuple[int, bytes, tuple[Header, ...]]:
        """Return the answer to an error; one that nobody expected is logged and shows nothing."""
        if isinstance(error, HttpProblem):
            status, body, headers = render(to_status(error.error), error.http)
            return status, body, (*headers, *error.headers)
        if isinstance(error, TrunklineError):
            self._refusals.note(error, caller)
            return render(to_status(error))
        if isinstance(error, grpc.RpcError):
            answer = render(from_rpc(error))
            if answer[0] >= 500:
                self._note(error, caller)
            return answer
        log.error("api_failed", exc_info=error)
        return render(to_status(error))

    def _note(self, error: grpc.RpcError, caller: Caller) -> None:
        code, text = error.code().name, error.details()
        self._failures.note(
            (code, caller.tenant or str(caller)),
            lambda count: log.warning("api_call_failed", code=code, error=text, count=count),
        )


def _exhausted(said: str) -> TrunklineError:
    """Return what gRPC's own RESOURCE_EXHAUSTED means: only what is too large is the caller's to mend."""
    if all(any(word in said.lower() for word in words) for words in _TOO_LARGE):
        return ResourceExhausted("the request or its answer is too large")
    return ResourceExhausted(
        "the service is busy; try again", reason="SERVICE_BUSY", retry_after=_RETRY_SECONDS
    )


def render(status: status_pb2.Status, http: int | None = None) -> tuple[int, bytes, tuple[Header, ...]]:
    """Return the HTTP status, the JSON body and the headers of a status.

    The request's id is in the header x-request-id of every answer, so that RequestInfo is left out.
    """
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    http = HTTP_STATUS[code] if http is None else http
    headers: list[Header] = [JSON]
    details: list[dict[str, Any]] = []
    for detail in status.details:
        if detail.Is(error_details_pb2.RequestInfo.DESCRIPTOR):
            continue
        try:
            details.append(json_format.MessageToDict(detail))
        except (TypeError, KeyError, message.DecodeError):
            continue  # a type that is not known here
    for retry in _details(status, error_details_pb2.RetryInfo):
        headers.append(retry_after(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9))
    if http == 401:
        headers.append((b"www-authenticate", _challenge(status)))
    return http, error_body(http, code.name, status.message, details), tuple(headers)


def _challenge(status: status_pb2.Status) -> bytes:
    reason = next((i.reason for i in _details(status, error_details_pb2.ErrorInfo)), "")
    return b'Bearer realm="trunkline"' + (
        b"" if reason == "CREDENTIALS_MISSING" else b', error="invalid_token"'
    )


def _details(status: status_pb2.Status, kind: type[Any]) -> list[Any]:
    found = []
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            found.append(kind.FromString(detail.value))
    return found
