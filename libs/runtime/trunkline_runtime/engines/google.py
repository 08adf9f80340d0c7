"""What Google's services have in common for an engine: credentials, and what the errors of their clients mean."""

from __future__ import annotations

from typing import Any

import grpc

PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""The same request may succeed in a moment."""
OF_THE_SET_UP = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
"""Somebody has to mend the credentials, the project, or what is asked."""
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def code_of(error: BaseException) -> grpc.StatusCode | None:
    """Return the status of an error of a client; None for any other error."""
    code = getattr(error, "grpc_status_code", None)
    if code is None and isinstance(error, grpc.RpcError):
        code = getattr(error, "code", lambda: None)()
    return code if isinstance(code, grpc.StatusCode) else None


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    return code_of(error) in PASSING


def is_of_the_set_up(error: BaseException) -> bool:
    """Whether somebody has to mend the set-up. Nothing that was sent is lost over that."""
    return code_of(error) in OF_THE_SET_UP or type(error).__module__.startswith("google.auth")


def pause_of(error: BaseException | None) -> float:
    """Return the seconds that the server asks to wait; 0 where it does not say."""
    for detail in getattr(error, "details", None) or ():
        delay: Any = getattr(detail, "retry_delay", None)
        if delay is not None:
            return float(delay.ToTimedelta().total_seconds())
    return 0.0


def credentials(quota_project: str) -> Any:
    """Return the environment's credentials (ADC). For a thread: it may ask the network. Raises google.auth's errors."""
    import google.auth  # noqa: PLC0415 -- only where Google is asked

    found, _ = google.auth.default(scopes=_SCOPES, quota_project_id=quota_project or None)
    return found
