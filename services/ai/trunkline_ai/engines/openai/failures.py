"""What an endpoint's refusals mean: a moment's trouble, the set-up's fault, or a conversation that is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from trunkline_runtime.engines.base import NOT_READY, EngineError

from trunkline_ai.engines.remote import BLOCKED, QUOTA, REFUSED, TOO_LONG, UNREACHABLE, told

_SET_UP = {401, 403, 404, 405}
_PASSING = {408, 409, 425, 500, 502, 503, 504, 529}
_OF_THE_CONTENT = ("content_filter", "content_policy_violation")
_OF_THE_LENGTH = ("context_length_exceeded", "maximum context length", "exceeds the available context")
_OF_THE_ACCOUNT = ("insufficient_quota", "billing_hard_limit_reached")
_MOST_RETRY_SECONDS = 3_600.0


def engine_error(status: int, body: bytes, headers: Mapping[str, str]) -> EngineError:
    """Return the error of an answer that is none. Its message is the endpoint's own, which holds nothing that was said.

    | reason | transient | what it is |
    |---|---|---|
    | ENGINE_NOT_READY | yes | key, address, model, or account: somebody has to mend it |
    | ENGINE_QUOTA | yes | too many requests or tokens; `retry_after` as the endpoint says |
    | ENGINE_UNREACHABLE | yes | the endpoint is in trouble |
    | CONTENT_BLOCKED, CONVERSATION_TOO_LONG | no | this conversation is refused |
    | ENGINE_REFUSED | no | anything else that is refused |
    """
    code, message = _said(body)
    hint = f"{code} {message}".casefold()
    text = f"the endpoint answered {status}: {told(message) or 'nothing more'}"
    if status in _SET_UP or any(word in hint for word in _OF_THE_ACCOUNT):
        return EngineError(NOT_READY, text, transient=True)
    if status == 429:
        return EngineError(QUOTA, text, transient=True, retry_after=_retry_after(headers))
    if status in _PASSING or status >= 500:
        return EngineError(UNREACHABLE, text, transient=True, retry_after=_retry_after(headers))
    if any(word in hint for word in _OF_THE_CONTENT):
        return EngineError(BLOCKED, "the endpoint refuses this content", transient=False)
    if any(word in hint for word in _OF_THE_LENGTH):
        return EngineError(TOO_LONG, "the conversation is longer than the model reads", transient=False)
    # A redirect too: the key is not carried to another place.
    return EngineError(REFUSED, text, transient=False, of_content=False)


def _said(body: bytes) -> tuple[str, str]:
    """Return the code and the message of an error's body, whatever shape an endpoint gives it."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    error = value.get("error", value) if isinstance(value, dict) else None
    if isinstance(error, str):
        return "", error
    if not isinstance(error, dict):
        return "", ""
    code = error.get("code") or error.get("type") or ""
    message = error.get("message") or error.get("detail") or ""
    return str(code), message if isinstance(message, str) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        if (millis := headers.get("retry-after-ms")) is not None:
            seconds = float(millis) / 1000
        else:
            seconds = float(headers.get("retry-after", "nan"))
    except ValueError:
        return None  # a date: the pauses grow by themselves
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return min(seconds, _MOST_RETRY_SECONDS)
