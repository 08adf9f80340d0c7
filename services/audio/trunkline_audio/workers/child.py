"""A worker process: loads one handler, says it is ready, then answers requests until its pipe closes.

`python -m trunkline_audio.workers.child TARGET LANES SETTINGS`: the handler that `TARGET` makes of the JSON
object `SETTINGS` answers up to `LANES` requests at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, cast

from trunkline_audio.workers import frames
from trunkline_audio.workers.handlers import Handler, answer, resolve


def main() -> None:
    """Serves requests from stdin to stdout; whatever else prints to stdout lands on stderr."""
    target, lanes, settings = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    # Ctrl-C reaches the whole process group; the service decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    handler = cast(Callable[..., Handler], resolve(target))(**settings)
    replies.write(frames.encode({"ready": True}))
    if lanes == 1:
        _serve(requests, replies, handler)
    else:
        _serve_side_by_side(requests, replies, handler, lanes)


def _serve(requests: BinaryIO, replies: BinaryIO, handler: Handler) -> None:
    # In the main thread, and no other is started: handlers of one lane may fork.
    while (request := frames.read(requests)) is not None:
        replies.write(frames.encode(_reply(handler, request)))


def _serve_side_by_side(requests: BinaryIO, replies: BinaryIO, handler: Handler, lanes: int) -> None:
    one_at_a_time = threading.Lock()

    def serve(request: frames.Message) -> None:
        try:
            reply = frames.encode(_reply(handler, request))
            with one_at_a_time:
                replies.write(reply)
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # an answer that cannot be given would be waited for

    with ThreadPoolExecutor(lanes) as threads:
        while (request := frames.read(requests)) is not None:
            threads.submit(serve, request)
        # Nobody reads the answers of what still runs.
        os._exit(0)


def _reply(handler: Handler, request: frames.Message) -> frames.Message:
    return {"id": request.pop("id"), **answer(handler, request)}


if __name__ == "__main__":
    main()
