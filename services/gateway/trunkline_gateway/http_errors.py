"""Errors as HTTP shows them: google.rpc.Status as JSON, and when to come again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

Header = tuple[bytes, bytes]


def error_body(http: int, status: str, message: str, details: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the JSON of an error: HTTP's code, the name of gRPC's, and details, each with its `@type`."""
    error = {"code": http, "message": message, "status": status, "details": details}
    return orjson.dumps({"error": error})


def retry_after(seconds: float) -> Header:
    """Return the header that says after how many whole seconds, 1 at least, the same request may succeed."""
    return (b"retry-after", str(max(1, math.ceil(seconds))).encode())
