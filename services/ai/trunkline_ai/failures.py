"""What the errors of the store and of engines mean to a caller."""

from __future__ import annotations

from trunkline_runtime.errors import Internal, InvalidArgument, ResourceExhausted, TrunklineError, Unavailable
from trunkline_store.errors import InvalidValue, StoreBusy, StoreError

from trunkline_ai.engines.base import EngineError


def domain_error(error: BaseException) -> TrunklineError | None:
    """The domain error for an error of the store or an engine; None for anything else, which is ours to mend."""
    if isinstance(error, StoreBusy):
        return ResourceExhausted("the store is busy", reason=error.reason, subject="writes", retry_after=1.0)
    if isinstance(error, InvalidValue):
        return InvalidArgument("", str(error), reason=error.reason)
    if isinstance(error, StoreError) and error.transient:
        return Unavailable("the store cannot be reached now", reason=error.reason, retry_after=1.0)
    if isinstance(error, EngineError):
        if error.transient:
            return Unavailable("the engine cannot answer now", reason="ENGINE_UNAVAILABLE", retry_after=1.0)
        return Internal("the engine cannot answer this", reason="ENGINE_FAILED")
    return None
