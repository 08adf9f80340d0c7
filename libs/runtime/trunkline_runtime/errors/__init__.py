"""Domain errors and the one table that turns them into google.rpc.Status and back.

A handler raises one of these; the server's interceptor answers with its status. A client turns what it got
back into the same class with `from_rpc_error`, so that both sides of a wall catch the same errors.
"""

from __future__ import annotations

from trunkline_runtime.errors.types import (
    DOMAIN,
    TABLE,
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    TrunklineError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from trunkline_runtime.errors.wire import from_rpc_error, to_status

__all__ = [
    "DOMAIN",
    "TABLE",
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "TrunklineError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "from_rpc_error",
    "to_status",
]
