"""Spanner's errors as the store's."""

from __future__ import annotations

import re

from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError
from google.rpc.error_details_pb2 import RetryInfo

from trunkline_store.errors import Conflict, InvalidValue, StoreError, StoreUnavailable

_CONSTRAINT = re.compile(
    r"must not be null|cannot be null|not null|non-null|null value|maximum size|foreign key|check constraint"
    r"|key size|exceeds the (maximum|limit)",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"could not parse|invalid value|exceeds the maximum|expected (bool|int64|float64|string|bytes|timestamp|json)"
    r"|not valid utf|illegal utf|maximum size",
    re.IGNORECASE,
)


class TransactionLost(StoreUnavailable):
    """The transaction is gone through no fault of its callback: run it again."""

    reason = "STORE_ABORTED"

    def __init__(self, message: str, *, delay: float | None = None, session_lost: bool = False) -> None:
        super().__init__(message)
        self.delay = delay
        """Seconds that the server asks to wait, None when it does not say."""
        self.session_lost = session_lost


class OutOfTime(StoreUnavailable):
    """The deadline passed; whether a commit was kept is unknown."""

    reason = "STORE_DEADLINE"


class CommitUnknown(StoreUnavailable):
    """The answer to a commit was lost, and then Spanner had forgotten the transaction: it may have been kept.

    Not run again: a callback that was kept would find its own rows, take them for another's (Conflict) or count twice.
    """

    reason = "STORE_COMMIT_UNKNOWN"


class DatabaseMissing(StoreUnavailable):
    """There is no such instance or database (yet)."""

    reason = "STORE_MISSING"


def translate(exc: BaseException) -> BaseException:
    """Return the store's error for one of the client's; anything else comes back as it is."""
    if isinstance(exc, StoreError):
        return exc
    if isinstance(exc, GoogleAuthError):
        return StoreUnavailable(f"no credentials for Spanner: {exc}")
    if not isinstance(exc, api.GoogleAPICallError):
        return exc
    told = exc.message or str(exc)
    error: StoreError
    if isinstance(exc, api.Aborted):
        error = TransactionLost(told, delay=_asked_delay(exc))
    elif isinstance(exc, api.AlreadyExists):
        error = Conflict(told)
    elif isinstance(exc, api.NotFound):
        if "Session not found" in told:
            error = TransactionLost(told, session_lost=True)
        elif "Database not found" in told or "Instance not found" in told:
            error = DatabaseMissing(told)
        elif "arent row" in told:
            error = InvalidValue(told)
        else:
            error = StoreError(told)
    elif isinstance(exc, api.OutOfRange):
        error = InvalidValue(told)
    elif isinstance(exc, api.FailedPrecondition):
        error = InvalidValue(told) if _CONSTRAINT.search(told) else StoreError(told)
    elif isinstance(exc, api.InvalidArgument):
        error = InvalidValue(told) if _VALUE.search(told) else StoreError(told)
    elif isinstance(exc, api.DeadlineExceeded):
        error = OutOfTime(told)
    elif isinstance(
        exc,
        api.ServiceUnavailable
        | api.InternalServerError
        | api.ResourceExhausted
        | api.Cancelled
        | api.Unknown,
    ):
        error = StoreUnavailable(told)
    else:
        error = StoreError(told)
    return error


def worth_repeating(error: BaseException) -> bool:
    """Tell whether the same transaction may succeed when run again at once, its outcome being known or harmless."""
    return isinstance(error, StoreUnavailable) and not isinstance(
        error, OutOfTime | DatabaseMissing | CommitUnknown
    )


def _asked_delay(exc: api.GoogleAPICallError) -> float | None:
    for error in exc.errors or ():
        for key, value in getattr(error, "trailing_metadata", tuple)() or ():
            if key == "google.rpc.retryinfo-bin":
                return float(RetryInfo.FromString(value).retry_delay.ToTimedelta().total_seconds())
    return None
