"""A worker process: loads one handler, says it is ready, then answers requests until its pipe closes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, cast

from trunkline_audio.workers import frames

Handler = Callable[[frames.Message], frames.Message]


class JobFailed(Exception):
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
    except JobFailed as failure:
        return {"error": {"reason": failure.reason, "message": str(failure)}}
    except MemoryError:
        return {"error": {"reason": "OUT_OF_MEMORY", "message": "the job needs more memory than it may use"}}
    except Exception as error:  # the boundary of the process
        return {"error": {"reason": "WORKER_FAILED", "message": f"{type(error).__name__}: {error}"[:500]}}


def main() -> None:
    """Serves requests from stdin to stdout; whatever else prints to stdout lands on stderr."""
    # Ctrl-C reaches the whole process group; the service decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    handler = cast(Callable[[], Handler], resolve(sys.argv[1]))()
    replies.write(frames.encode({"ready": True}))
    while (request := frames.read(requests)) is not None:
        replies.write(frames.encode(answer(handler, request)))


if __name__ == "__main__":
    main()
