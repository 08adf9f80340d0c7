"""Work that is done now and then for as long as a service runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from trunkline_runtime.logs import get_logger

log = get_logger(__name__)


async def every(
    seconds: float,
    name: str,
    work: Callable[[], Awaitable[object]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Do `work` now and every so many seconds after its end, for ever; a failure is logged, and tried again then."""
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("periodic_work_failed", work=name, error=type(error).__name__, exc_info=error)
        await sleep(seconds)
