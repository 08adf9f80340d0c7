"""What a handler is, how it fails, and how its outcome becomes a reply."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from trunkline_audio.workers import frames

Handler = Callable[[frames.Message], frames.Message]


class HandlerFailed(Exception):
    """What a handler raises when the job cannot be done: `reason` is told to the service as it is."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def resolve(target: str) -> Any:
    """The object that `module:attribute` names."""
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise ValueError(f"{target!r} is not of the form module:attribute")
    return getattr(importlib.import_module(module), attribute)


def answer(handler: Handler, request: frames.Message) -> frames.Message:
    """Runs one job and turns its outcome into a reply."""
    try:
        return {"ok": handler(request)}
    except HandlerFailed as failure:
        return {"error": {"reason": failure.reason, "message": str(failure)}}
    except MemoryError:
        return {"error": {"reason": "OUT_OF_MEMORY", "message": "the job needs more memory than it may use"}}
    except Exception as error:  # the boundary of the process
        return {"error": {"reason": "WORKER_FAILED", "message": f"{type(error).__name__}: {error}"[:500]}}
