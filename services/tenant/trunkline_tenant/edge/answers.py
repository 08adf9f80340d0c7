"""What Envoy answers in our name: the headers of limits, and errors in the JSON that the gateway's errors have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from cachetools import LRUCache
from google.protobuf.message import DecodeError

from trunkline_tenant.edge.windows import Count

Headers = list[tuple[str, str]]
_MOST_KEPT_BYTES = 512


def tightest_of(counts: Sequence[Count | None]) -> Count | None:
    """Return the count that a caller is told: the one that refuses, or else the one with the least left."""
    known = [count for count in counts if count is not None]
    return min(known, key=lambda count: (bool(count.granted), count.remaining), default=None)


def headers_of(count: Count) -> Headers:
    """Return what a caller is told of its limit: the draft headers of the IETF, and Retry-After of a refusal."""
    reset = str(max(1, math.ceil(count.reset_seconds)))
    headers = [
        ("ratelimit-limit", str(count.limit)),
        ("ratelimit-remaining", str(count.remaining)),
        ("ratelimit-reset", reset),
    ]
    return headers if count.granted else [*headers, ("retry-after", reset)]


def sentence_of(count: Count) -> str:
    """Return what a caller is told in words when a limit refuses it."""
    return f"the limit is {count.limit} requests an hour; try again later"


def over_limit(count: Count) -> bytes:
    """Return the body of a refusal for a limit."""
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{count.reset_seconds:.3f}s"}
    return error_body(
        429,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "RATE_LIMIT",
        sentence_of(count),
        retry,
    )


def error_body(
    http: int, code: grpc.StatusCode, reason: str, message: str, *more: Mapping[str, Any]
) -> bytes:
    """Return a google.rpc.Status as JSON."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "trunkline"}
    error = {"code": http, "message": message, "status": code.name, "details": [info, *more]}
    return json.dumps({"error": error}).encode()


def add_unary(
    server: grpc.aio.Server, service: str, method: str, behaviour: Any, request: Any, *, kept: int = 0
) -> None:
    """Add a service with one method, whose messages are envoy-data-plane's: its own server is not grpc.aio's.

    The last `kept` questions stay parsed, for who asks the same again: parsing takes longer than answering. Such a
    question must not be changed.
    """
    known: LRUCache[bytes, Any] = LRUCache(kept)

    def parse(data: bytes) -> Any:
        if (asked := known.get(data)) is not None:
            return asked
        try:
            asked = request.parse(data)
        except Exception as error:  # betterproto2 has no error of its own
            raise DecodeError(str(error)) from error
        if kept and len(data) <= _MOST_KEPT_BYTES:
            known[data] = asked
        return asked

    handler = grpc.unary_unary_rpc_method_handler(
        behaviour, request_deserializer=parse, response_serializer=bytes
    )
    handlers: dict[str, Any] = {method: handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
