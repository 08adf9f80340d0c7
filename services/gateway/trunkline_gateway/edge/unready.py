"""The HTTP address while the gateway cannot begin: alive, not ready and why, what cannot be served to be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from trunkline_runtime.observe.endpoint import Ready

from trunkline_gateway.api.answered import ANSWERED, NO_RPC
from trunkline_gateway.api.readiness import InboxState
from trunkline_gateway.edge.front import AsgiApp, Front, HttpServer
from trunkline_gateway.hooks.answers import Receive, Scope, Send, refused
from trunkline_gateway.hooks.receiver import RECEIPTS

_RETRY_SECONDS = 3.0
_LAST_SECONDS = 1.0


@asynccontextmanager
async def answering(
    address: str, why: Callable[[], str], hooks: AsgiApp | None = None, keeper: InboxState | None = None
) -> AsyncIterator[Ready]:
    """Answer at `address` while the block lasts; /readyz tells `why`. Raises ConfigError for a port in use.

    Webhooks go to `hooks`; ready is who has a `keeper` that can take them. Gives what tells so.
    """

    def ready() -> tuple[bool, str]:
        told = keeper.describe() if keeper is not None else []
        takes = keeper is not None and keeper.can_take
        return takes, "\n".join([f"{'' if takes else 'not ready: '}{why()}", *told])

    requests = ANSWERED.labels(NO_RPC, "503")
    webhooks = RECEIPTS.labels("unknown", "store_not_ready")

    async def refuse_webhook(scope: Scope, receive: Receive, send: Send) -> None:
        webhooks.inc()
        await _refuse(scope, receive, send)

    async def refuse_request(scope: Scope, receive: Receive, send: Send) -> None:
        requests.inc()
        await _refuse(scope, receive, send)

    http = HttpServer(Front(hooks or refuse_webhook, refuse_request, ready), address, _LAST_SECONDS)
    serving = asyncio.create_task(http.run_until_stopped())
    try:
        yield ready
    finally:
        await http.stop(0, _LAST_SECONDS)
        await serving


async def _refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    await refused(
        send, 503, "STORE_NOT_READY", "the gateway is waiting for its store", retry_after=_RETRY_SECONDS
    )
