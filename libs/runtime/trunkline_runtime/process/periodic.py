"""Work that is done now and then for as long as a service runs."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Iterator

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter

log = get_logger(__name__)

SET_ASIDE = counter(
    "trunkline_set_aside_total", "Rows that a loop could not work on, and left for a later look.", ["work"]
)


async def every(
    seconds: float,
    name: str,
    work: Callable[[], Awaitable[object]],
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Do `work` now and every so many seconds after its end, for ever; a failure is logged, and tried again then."""
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("periodic_work_failed", work=name, error=type(error).__name__, exc_info=error)
        await sleep(seconds)


@contextlib.contextmanager
def set_aside(work: str, **what: object) -> Iterator[None]:
    """Do something for one of many; when it fails, log what it was for, count it, and let the others have their turn.

    An error that says of itself that it is `transient`, as the store's do, is not the row's own: it is raised.
    """
    try:
        yield
    except Exception as error:
        if getattr(error, "transient", False):
            raise
        SET_ASIDE.labels(work).inc()
        log.error("set_aside", work=work, error=type(error).__name__, at=place_of(error), **what)


def place_of(error: BaseException) -> str:
    """Return where an error was raised, as `function:line`: no text and no value, which may be a tenant's own."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}:{frames[-1].lineno}" if frames else ""
