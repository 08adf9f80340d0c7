"""The few HTTP answers that the gateway makes itself, as raw ASGI messages; errors are google.rpc.Status as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from trunkline_gateway import http_errors

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The scope's extension that sends an answer of known bytes; see EdgeProtocol.
WHOLE = "trunkline.whole"
# A scope's key: the webhook, where it was read before (one_read.py). The application must pop it, so that the body is
# freed. Such a scope has no `headers` and no `query_string`, and `receive` gives an empty body.
WEBHOOK = "trunkline.webhook"
# The scope's extension that is called (`begin`) by whoever passes a body on as it comes, and holds none of it.
PASSED_ON = "trunkline.passed_on"

_JSON = (b"content-type", b"application/json")
_ACCEPTED_TAIL = b'"}'
_ACCEPTED_HEAD = b'{"receiptId":"'
_ACCEPTED_HEADERS = [_JSON, (b"content-length", str(len(_ACCEPTED_HEAD) + 32 + len(_ACCEPTED_TAIL)).encode())]
_ACCEPTED_WHOLE = (
    b"HTTP/1.1 202 Accepted\r\n"
    + b"".join(name + b": " + value + b"\r\n" for name, value in _ACCEPTED_HEADERS)
    + b"\r\n"
    + _ACCEPTED_HEAD
)

_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


_QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"


def accepted_whole(scope: Scope, receipt_id: str) -> bool:
    """Answer 202 in one piece: the receipt is committed, as of nearly all that comes. False where it takes more."""
    extensions = scope.get("extensions")
    whole = extensions.get(WHOLE) if extensions else None
    return whole is not None and whole["send"](_ACCEPTED_WHOLE + receipt_id.encode() + _ACCEPTED_TAIL)


async def accepted_in_messages(send: Send, receipt_id: str) -> None:
    """Answer 202 where it does not go in one piece."""
    await send({"type": "http.response.start", "status": 202, "headers": _ACCEPTED_HEADERS})
    body = _ACCEPTED_HEAD + receipt_id.encode() + _ACCEPTED_TAIL
    await send({"type": "http.response.body", "body": body})


async def accepted(scope: Scope, send: Send, receipt_id: str) -> None:
    """Answer 202, in one piece if it can be."""
    if not accepted_whole(scope, receipt_id):
        await accepted_in_messages(send, receipt_id)


async def refused(
    send: Send,
    status: int,
    reason: str,
    message: str,
    retry_after: float | None = None,
    allow: str | None = None,
) -> None:
    """Answer an error with a google.rpc.Status body; `retry_after` in seconds, rounded up to whole ones."""
    headers, body = _refusal(status, reason, message, retry_after)
    if allow is not None:
        headers.append((b"allow", allow.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def last_words(status: int, reason: str, message: str, retry_after: float | None = None) -> bytes:
    """Return the whole of such an answer, for a connection that ends with it."""
    headers, body = _refusal(status, reason, message, retry_after)
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in (*headers, (b"connection", b"close"))]
    return b"\r\n".join([*lines, b"", body])


def _refusal(
    status: int, reason: str, message: str, retry_after: float | None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    name = _NAMES[status]
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "trunkline"}
    details: list[dict[str, Any]] = [detail]
    if status == 429:
        details.append({"@type": _QUOTA_FAILURE, "violations": [{"subject": reason, "description": message}]})
    body = http_errors.error_body(status, name, message, details)
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append(http_errors.retry_after(retry_after))
    return headers, body


async def text(
    send: Send, status: int, body: bytes, content_type: bytes = b"text/plain; charset=utf-8"
) -> None:
    """Answer plain text."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
