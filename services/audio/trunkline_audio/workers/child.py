"""A worker process: loads one handler, says it is ready, then answers requests until its pipe closes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import cast

from trunkline_audio.workers import frames
from trunkline_audio.workers.jobs import Handler, answer, resolve


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
