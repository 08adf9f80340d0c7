"""Takes an HTTP request in: its headers, its path as it came, and its body, capped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import grpc
from trunkline_runtime.errors import ResourceExhausted
from trunkline_runtime.identity.callers import Caller

from trunkline_gateway.api.credentials import NOBODY, Shown
from trunkline_gateway.api.problems import problem
from trunkline_gateway.api.transcode.bindings import Binding
from trunkline_gateway.api.transcode.writer import EVENT_STREAM
from trunkline_gateway.edge.answers import Receive, Scope, Send
from trunkline_gateway.hooks.limits import Buckets
from trunkline_gateway.http_errors import Header

T = TypeVar("T")
Check = Callable[[Mapping[bytes, bytes]], None]
MOST_BODY_BYTES = 1_048_576
MOST_URL_BYTES = 16_384

Metadata = tuple[tuple[str, str], ...]

_ONCE = frozenset({b"authorization", b"content-type", b"content-length"})


@dataclass(slots=True)
class ApiRequest:
    """An HTTP request for an RPC.

    `rated` is the tenant whose measure it is taken from, if of any; `limits` are headers that tell its caller's.
    """

    binding: Binding
    values: dict[str, str]
    scope: Scope
    headers: Mapping[bytes, bytes]
    receive: Receive
    send: Send
    request_id: str
    shown: Shown = NOBODY
    rated: str = ""
    limits: tuple[Header, ...] = ()

    @property
    def rpc(self) -> str:
        """Its name."""
        return self.binding.rpc

    @property
    def wants_events(self) -> bool:
        """Whether the answer is a stream of messages that the client asks for as server-sent events."""
        wanted = self.headers.get(b"accept", b"").lower()
        return self.binding.streams and not self.binding.gives_bytes and EVENT_STREAM in wanted

    @property
    def metadata(self) -> Metadata:
        """What the services are shown."""
        return (("authorization", self.shown.authorization), ("x-request-id", self.request_id))


class Gone(Exception):
    """The client hung up: nobody waits for an answer."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by lower-case name; one that must not stand twice and does is told as malformed."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        found[name] = found[name] + b", " + value if name in found and name in _ONCE else value
    return found


def raw_path(scope: Scope) -> str:
    """Return the path as it came, percent-encoded. Raises HttpProblem 414."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    if len(raw) + len(scope["query_string"]) > MOST_URL_BYTES:
        raise problem(
            414, grpc.StatusCode.INVALID_ARGUMENT, "URL_TOO_LONG", f"the URL is over {MOST_URL_BYTES} bytes"
        )
    return raw.partition(b"?")[0].decode("ascii", "replace")


def rated(rates: Buckets | None, caller: Caller) -> str:
    """Take a request from what its tenant may ask, and return that tenant; "" where nothing is taken.

    Raises ResourceExhausted.
    """
    if rates is None or not caller.is_of_tenant or not caller.tenant:
        return ""
    wait = rates.take(caller.tenant)
    if wait:
        raise ResourceExhausted(
            "the tenant makes more requests than it may; try again", reason="API_RATE", retry_after=wait
        )
    return caller.tenant


async def content(
    headers: Mapping[bytes, bytes], receive: Receive, *, check: Check | None, most: int, seconds: float
) -> bytes:
    """Return the body. Raises HttpProblem: 413 over `most` bytes, what `check` says of its headers, 408 when late."""
    length = headers.get(b"content-length")
    if length == b"0" or (length is None and b"transfer-encoding" not in headers):
        return b""
    if length is not None and length.isdigit() and int(length) > most:
        raise _too_large(most)
    if check is not None:
        check(headers)
    try:
        async with asyncio.timeout(seconds):
            return await _whole(receive, most)
    except TimeoutError:
        raise problem(
            408, grpc.StatusCode.DEADLINE_EXCEEDED, "BODY_TOO_SLOW", "the body did not arrive in time"
        ) from None


async def unless_gone(call: Awaitable[T], receive: Receive) -> T:
    """Return what a call answers; once its client has hung up it is cancelled. Raises Gone."""
    calling, watching = asyncio.ensure_future(call), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((calling, watching), return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            raise Gone
        return await calling
    finally:
        watching.cancel()
        calling.cancel()


async def _gone(receive: Receive) -> None:
    """Return once the client has hung up: until then there is nothing to come but the end of its request."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _whole(receive: Receive, most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def check_of(binding: Binding) -> Check | None:
    """Return what checks the headers of a body; None where no body is read."""
    if binding.takes_bytes:
        return check_plain
    return _check_json if binding.whole_body or binding.body is not None else None


def _check_json(headers: Mapping[bytes, bytes]) -> None:
    """Check that a body is JSON, as it is. Raises HttpProblem 415."""
    kind, _, parameters = headers.get(b"content-type", b"application/json").partition(b";")
    charset = parameters.strip().lower().replace(b'"', b"")
    if kind.strip().lower() != b"application/json" or charset not in (b"", b"charset=utf-8"):
        raise unsupported("the body must be application/json in UTF-8")
    check_plain(headers)


def check_plain(headers: Mapping[bytes, bytes]) -> None:
    """Check that a body is not compressed. Raises HttpProblem 415."""
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding != b"identity":
        raise unsupported("the body must not be compressed")


def unsupported(text: str) -> Exception:
    """Return the problem of a body that isn't taken: 415."""
    return problem(415, grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_MEDIA_TYPE", text)


def _too_large(most: int) -> Exception:
    return problem(413, grpc.StatusCode.INVALID_ARGUMENT, "BODY_TOO_LARGE", f"the body is over {most} bytes")
