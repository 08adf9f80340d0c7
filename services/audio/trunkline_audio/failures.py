"""What the store's errors mean to a caller."""

from __future__ import annotations

from trunkline_runtime.errors import InvalidArgument, ResourceExhausted, TrunklineError, Unavailable
from trunkline_store.errors import InvalidValue, StoreBusy, StoreError


def domain_error(error: BaseException) -> TrunklineError | None:
    """The domain error for an error of the store; None for anything else, which is ours to mend."""
    if isinstance(error, StoreBusy):
        return ResourceExhausted("the store is busy", reason=error.reason, subject="writes", retry_after=1.0)
    if isinstance(error, InvalidValue):
        return InvalidArgument("", str(error), reason=error.reason)
    if isinstance(error, StoreError) and error.transient:
        return Unavailable("the store cannot be reached now", reason=error.reason, retry_after=1.0)
    return None
