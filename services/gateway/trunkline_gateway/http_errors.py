"""Errors as HTTP shows them: the one table from status codes to HTTP's, the JSON, and when to come again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import orjson

Header = tuple[bytes, bytes]

HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}
"""As google/rpc/code.proto says."""


def error_body(http: int, status: str, message: str, details: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the JSON of an error: HTTP's code, the name of gRPC's, and details, each with its `@type`."""
    error = {"code": http, "message": message, "status": status, "details": details}
    return orjson.dumps({"error": error})


def retry_after(seconds: float) -> Header:
    """Return the header that says after how many whole seconds, 1 at least, the same request may succeed."""
    return (b"retry-after", str(max(1, math.ceil(seconds))).encode())
