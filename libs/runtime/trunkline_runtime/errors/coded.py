"""Errors of libraries below us that carry their own meaning, such as the store's, as the domain's.

Such an error has `code` (the name of a gRPC status), `reason` (a stable word) and `transient` (the same call may
succeed later); the store cannot import us, so it is known by these.
"""

from __future__ import annotations

from trunkline_runtime.errors.types import TABLE, TrunklineError

_RETRY_SECONDS = 1.0
_BY_NAME = {code.name: cls for code, cls in TABLE.items()}
# What is said of values is for the caller to read; of everything else only the log learns the details.
_TOLD = {"INVALID_ARGUMENT"}


def domain_error(cause: Exception) -> TrunklineError | None:
    """Return the domain error for an error that carries its code, None for any other."""
    code, reason = getattr(cause, "code", None), getattr(cause, "reason", None)
    if not isinstance(code, str) or not isinstance(reason, str) or code not in _BY_NAME:
        return None
    transient = getattr(cause, "transient", False) is True
    message = str(cause) if code in _TOLD else "the store is temporarily unavailable"
    return _BY_NAME[code].of(message, reason=reason, retry_after=_RETRY_SECONDS if transient else None)
