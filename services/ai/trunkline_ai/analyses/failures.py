"""What an engine's errors mean to a caller."""

from __future__ import annotations

from trunkline_runtime.errors import Internal, TrunklineError, Unavailable

from trunkline_ai.engines.base import EngineError


def domain_error(error: BaseException) -> TrunklineError | None:
    """The domain error for an error of an engine; None for anything else."""
    if not isinstance(error, EngineError):
        return None
    if error.transient:
        return Unavailable("the engine cannot answer now", reason="ENGINE_UNAVAILABLE", retry_after=1.0)
    return Internal("the engine cannot answer this", reason="ENGINE_FAILED")
