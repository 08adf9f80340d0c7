"""The wish to stop: SIGTERM and SIGINT as an event that can be awaited."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class StoppedWaiting(Exception):
    """SIGTERM or SIGINT came before the service could begin: a clean end."""


@contextmanager
def stop_requested() -> Iterator[asyncio.Event]:
    """Give an event that is set by the first SIGTERM or SIGINT; handlers are removed at the end."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
