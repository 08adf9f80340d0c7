"""What an endpoint's refusals mean: a moment's trouble, the set-up's fault, or a conversation that is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from trunkline_runtime.engines.base import NOT_READY, EngineError

from trunkline_ai.engines.remote import BLOCKED, QUOTA, REFUSED, TOO_LONG, UNREACHABLE

_SET_UP = {401, 402, 404, 405}
_PERHAPS_SET_UP = {403, 429}
"""Set up wrongly, or of this request: as the code says."""
_PASSING = {408, 409, 425, 500, 502, 503, 504, 529}
_OF_THE_CONTENT = frozenset({"content_filter", "content_policy_violation"})
_OF_THE_LENGTH = ("context_length_exceeded", "maximum context length", "exceeds the available context")
_OF_THE_ACCOUNT = frozenset({
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated",
    "access_terminated", "invalid_api_key", "incorrect_api_key", "invalid_authentication",
    "authentication_error", "permission_denied", "permission_error", "insufficient_permissions", "insufficient_balance",
    "model_not_found", "not_found_error", "unsupported_country_region_territory", "ip_not_authorized",
    "organization_restricted",
})  # fmt: skip
_KNOWN = _OF_THE_ACCOUNT | _OF_THE_CONTENT | {
    "rate_limit_exceeded", "rate_limit_error", "tokens", "requests", "server_error", "overloaded", "overloaded_error",
    "invalid_request_error", "context_length_exceeded", "unsupported_parameter", "unsupported_value", "invalid_value",
    "string_above_max_length", "missing_required_parameter",
}  # fmt: skip
"""Codes that may be logged: any other may hold what the endpoint was sent."""
_MOST_RETRY_SECONDS = 3_600.0


def engine_error(status: int, body: bytes, headers: Mapping[str, str]) -> EngineError:
    """Return the error of an answer that is none. Its message is the status, and the code if it is a known one.

    What the endpoint says beside may repeat what it was sent: nobody is told it, and no more hangs on it than how this
    very request ends.

    | reason | transient | what it is |
    |---|---|---|
    | ENGINE_NOT_READY | yes | key, address, model, or account: somebody has to mend it |
    | ENGINE_QUOTA | yes | too many requests or tokens; `retry_after` as the endpoint says |
    | ENGINE_UNREACHABLE | yes | the endpoint is in trouble |
    | CONTENT_BLOCKED, CONVERSATION_TOO_LONG | no | this conversation is refused |
    | ENGINE_REFUSED | no | anything else that is refused |
    """
    codes, message = _said(body)
    known = next((code for code in codes if code in _KNOWN), "")
    text = f"the endpoint answered {status}" + (f": {known}" if known else "")
    if status in _SET_UP or (status in _PERHAPS_SET_UP and not _OF_THE_ACCOUNT.isdisjoint(codes)):
        return EngineError(NOT_READY, text, transient=True)
    if status == 429:
        return EngineError(QUOTA, text, transient=True, retry_after=_retry_after(headers))
    if status in _PASSING or status >= 500:
        return EngineError(UNREACHABLE, text, transient=True, retry_after=_retry_after(headers))
    if not _OF_THE_CONTENT.isdisjoint(codes):
        return EngineError(BLOCKED, "the endpoint refuses this content", transient=False)
    if any(word in codes or word in message for word in _OF_THE_LENGTH):
        return EngineError(TOO_LONG, "the conversation is longer than the model reads", transient=False)
    # A redirect too: the key is not carried to another place. A 403 may be a firewall's, of these words.
    return EngineError(REFUSED, text, transient=False, of_content=status == 403)


def _said(body: bytes) -> tuple[tuple[str, ...], str]:
    """Return the code, the type, and the message of an error's body, whatever shape an endpoint gives it."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return (), ""
    error = value.get("error", value) if isinstance(value, dict) else None
    if isinstance(error, str):
        return (), error.casefold()
    if not isinstance(error, dict):
        return (), ""
    codes = [error.get("code"), error.get("type")]
    message = error.get("message") or error.get("detail") or ""
    return (
        tuple(code.casefold() for code in codes if isinstance(code, str)),
        message.casefold() if isinstance(message, str) else "",
    )


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
