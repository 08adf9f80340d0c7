"""What Google's errors mean: a moment's trouble, the set-up's fault, or a recording that is refused for good."""

from __future__ import annotations

from typing import Any

import grpc
from trunkline_runtime.engines.base import NOT_READY, EngineError

from trunkline_audio.engines.google import requests

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
_REFUSED_FEATURES = (
    (requests.WORD_CONFIDENCE, ("word_level_confidence", "word_confidence")),
    (requests.WORD_TIMES, ("word_level_timestamps", "word_time_offsets", "word_timestamps", "word_timings")),
    (requests.SPEAKERS, ("diarization",)),
    (requests.PUNCTUATION, ("automatic_punctuation",)),
    (requests.PHRASES, ("adaptation", "phrase_set", "phrase sets")),
)
_NOT_SUPPORTED = ("does not support", "not support", "unsupported")
_LANGUAGE = ("language_code", "the language ", "language code")


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    return _code(error) in _PASSING


def is_end_of_stream(error: BaseException) -> bool:
    """Whether Google ended a stream, because it lasted too long or nothing came."""
    return _code(error) in {grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.CANCELLED}


def is_of_the_set_up(error: BaseException) -> bool:
    """Whether somebody has to mend the credentials, the project, or the recognizer. No recording is lost over that."""
    return _code(error) in _OF_THE_SET_UP or type(error).__module__.startswith("google.auth")


def refused_feature(error: BaseException, asked: frozenset[str] | set[str]) -> str:
    """Return which of the features that were asked for the model does not have, by what it says; empty for none."""
    if _code(error) is not grpc.StatusCode.INVALID_ARGUMENT:
        return ""
    told = str(error).casefold()
    if not any(text in told for text in _NOT_SUPPORTED):
        return ""
    return next(
        (name for name, texts in _REFUSED_FEATURES if name in asked and any(text in told for text in texts)),
        "",
    )


def pause_of(error: BaseException | None) -> float:
    """Return the seconds that the server asks to wait; 0 where it does not say."""
    for detail in getattr(error, "details", None) or ():
        delay: Any = getattr(detail, "retry_delay", None)
        if delay is not None:
            return float(delay.ToTimedelta().total_seconds())
    return 0.0


def engine_error(error: Exception) -> EngineError:
    """Return what the service raises for an error of the client library. Its message holds nothing that was said.

    | reason | transient | what it is |
    |---|---|---|
    | ENGINE_NOT_READY | yes | the set-up is refused: credentials, project, recognizer; somebody has to mend it |
    | ENGINE_QUOTA | yes | the quota is used up |
    | LANGUAGE_NOT_SUPPORTED | no | the model does not know the language |
    | ENGINE_UNREACHABLE, ENGINE_(a code of gRPC) | by the code | anything else |
    """
    message = " ".join(str(error).split())[:_MESSAGE_MOST]
    if is_of_the_set_up(error):
        return EngineError(NOT_READY, f"Google refuses: {message}", transient=True)
    code = _code(error)
    if code is None:
        return EngineError("ENGINE_UNREACHABLE", f"{type(error).__name__}: {message}", transient=True)
    reason = f"ENGINE_{code.name}"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        reason = "ENGINE_QUOTA"
    elif code is grpc.StatusCode.INVALID_ARGUMENT and any(text in message.casefold() for text in _LANGUAGE):
        reason = "LANGUAGE_NOT_SUPPORTED"
    return EngineError(
        reason,
        f"Google answered {code.name}: {message}",
        transient=is_passing(error),
        of_content=code is not grpc.StatusCode.UNIMPLEMENTED,
        retry_after=pause_of(error) or None,
    )


def status_error(status: Any) -> EngineError:
    """Return what the service raises for a google.rpc.Status within an answer."""
    codes = {code.value[0]: code for code in grpc.StatusCode}
    error = _StatusError(status.message)
    error.grpc_status_code = codes.get(status.code, grpc.StatusCode.UNKNOWN)
    return engine_error(error)


class _StatusError(Exception):
    grpc_status_code: grpc.StatusCode


def is_absent(error: BaseException) -> bool:
    """Whether what was asked about is not there."""
    return _code(error) is grpc.StatusCode.NOT_FOUND


def _code(error: BaseException) -> grpc.StatusCode | None:
    code = getattr(error, "grpc_status_code", None)
    if code is None and isinstance(error, grpc.RpcError):
        code = getattr(error, "code", lambda: None)()
    return code if isinstance(code, grpc.StatusCode) else None
