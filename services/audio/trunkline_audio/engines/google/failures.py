"""What Google's errors mean: a moment's trouble, the set-up's fault, or a recording that is refused for good."""

from __future__ import annotations

from typing import Any

import grpc
from trunkline_runtime.engines.base import NOT_READY, EngineError

_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
_OF_THE_SET_UP = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
_MESSAGE_MOST = 300


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    return _code(error) in _PASSING


def is_of_the_set_up(error: BaseException) -> bool:
    """Whether somebody has to mend the credentials, the project, or the recognizer. No recording is lost over that."""
    return _code(error) in _OF_THE_SET_UP or type(error).__module__.startswith("google.auth")


def pause_of(error: BaseException | None) -> float:
    """Return the seconds that the server asks to wait; 0 where it does not say."""
    for detail in getattr(error, "details", None) or ():
        delay: Any = getattr(detail, "retry_delay", None)
        if delay is not None:
            return float(delay.ToTimedelta().total_seconds())
    return 0.0


def engine_error(error: Exception) -> EngineError:
    """Return what the service raises for an error of the client library. Its message holds nothing that was said."""
    message = " ".join(str(error).split())[:_MESSAGE_MOST]
    if is_of_the_set_up(error):
        return EngineError(NOT_READY, f"Google refuses: {message}", transient=True)
    code = _code(error)
    if code is None:
        return EngineError("ENGINE_UNREACHABLE", f"{type(error).__name__}: {message}", transient=True)
    reason = "ENGINE_QUOTA" if code is grpc.StatusCode.RESOURCE_EXHAUSTED else f"ENGINE_{code.name}"
    return EngineError(
        reason,
        f"Google answered {code.name}: {message}",
        transient=is_passing(error),
        retry_after=pause_of(error) or None,
    )


def _code(error: BaseException) -> grpc.StatusCode | None:
    code = getattr(error, "grpc_status_code", None)
    if code is None and isinstance(error, grpc.RpcError):
        code = getattr(error, "code", lambda: None)()
    return code if isinstance(code, grpc.StatusCode) else None
