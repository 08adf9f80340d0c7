"""The HTTP address while the gateway cannot begin: alive, not ready and why, everything else to be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from trunkline_gateway.answers import Receive, Scope, Send, refused
from trunkline_gateway.http import Front, HttpServer

_RETRY_SECONDS = 3.0
_LAST_SECONDS = 1.0


@asynccontextmanager
async def answering(address: str, why: Callable[[], str]) -> AsyncIterator[HttpServer]:
    """Answer at `address` while the block lasts; /readyz tells `why`. Raises ConfigError for a port in use."""
    http = HttpServer(Front(_refuse, _refuse, lambda: (False, f"not ready: {why()}")), address, _LAST_SECONDS)
    serving = asyncio.create_task(http.run_until_stopped())
    try:
        yield http
    finally:
        await http.stop(0, _LAST_SECONDS)
        await serving


async def _refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    await refused(send, 503, "STORE_NOT_READY", "the gateway waits for its store", retry_after=_RETRY_SECONDS)
