"""The store's errors as the domain's, so that a caller is told what helps."""

from __future__ import annotations

from trunkline_runtime.errors import TABLE, TrunklineError
from trunkline_store import StoreError

_RETRY_SECONDS = 0.2
# What the store says of values is for its caller to read; the rest is for the log.
_SHOWN = {"INVALID_VALUE"}
_BY_CODE = {code.name: cls for code, cls in TABLE.items()}


def translate(error: Exception) -> TrunklineError | None:
    """Return the domain error for one of the store's, None for any other."""
    if not isinstance(error, StoreError):
        return None
    message = str(error) if error.reason in _SHOWN else "the store cannot do this now"
    return _BY_CODE[error.code].of(
        message, reason=error.reason, retry_after=_RETRY_SECONDS if error.transient else None
    )
