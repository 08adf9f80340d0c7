"""Standby: while a gateway cannot open its store, as on a full disk, webhooks go to the spool all the same.

On a file as its store nobody else can take them. On Spanner other replicas do, and one that waits for a migration
must not seem ready: it refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from trunkline_runtime.observe.endpoint import Ready
from trunkline_runtime.observe.logs import get_logger
from trunkline_store.errors import StoreError

from trunkline_gateway.api.answered import ANSWERED, NO_RPC
from trunkline_gateway.api.readiness import InboxState
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.edge.answers import Receive, Scope, Send, refused
from trunkline_gateway.edge.front import AsgiApp, Front, HttpServer
from trunkline_gateway.hooks.limits import Limits
from trunkline_gateway.hooks.receiver import RECEIPTS, Receiver
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.hooks.traffic import Traffic
from trunkline_gateway.intake.keeper import GOES_TO, NOWHERE, SPOOL, Keeper
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.providers.base import Delivery, Source
from trunkline_gateway.receipts import NewReceipt

log = get_logger(__name__)

_LOOK_SECONDS = 0.25
_RETRY_SECONDS = 3.0
_LAST_SECONDS = 1.0


@asynccontextmanager
async def standing_by(
    config: GatewayConfig, sources: SourceMap, traffic: Traffic, why: Callable[[], str]
) -> AsyncIterator[Ready]:
    """Answer at the HTTP address while the block lasts, and spool webhooks; /readyz tells operators `why`."""
    if not config.store_is_a_file:
        async with answering(config.http_address, why) as ready:
            yield ready
        return
    spool = Spool(config.spool_folder(), config.spool_max_bytes)
    inbox = StandbyInbox(spool, config.confirm_seconds)
    # Nothing is looked at before the store is there: its own limits bound what is spooled until then.
    limits = Limits.of(config, asyncio.get_running_loop().time)
    receiver = Receiver.of(config, sources, inbox, _Forgotten(), limits, lambda: None, traffic=traffic)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(spool.close)
        await inbox.care()
        for loop in (inbox.run(), sources.follow()):
            stack.callback(asyncio.create_task(loop).cancel)
        yield await stack.enter_async_context(answering(config.http_address, why, receiver, inbox))


class StandbyInbox:
    """An Inbox (hooks/receiver.py) with a spool only. No receipt here was ever handed to the store: its floor is 0."""

    def __init__(self, spool: Spool, confirm_seconds: float):
        """The spool is opened by `care`."""
        self._spool = spool
        self._keeper = Keeper(spool, confirm_seconds)

    async def append(self, row: NewReceipt, size: int) -> None:
        """Commit one row of `receipts`. Raises StoreError."""
        await self._keeper.keep(row, 0, "no_store")

    @property
    def can_take(self) -> bool:
        """Whether a webhook that comes now is kept."""
        return not self._spool.trouble and not self._keeper.refusing

    def describe(self) -> list[str]:
        """Return lines for an operator."""
        return [*self._keeper.describe(), *self._spool.describe()]

    async def care(self) -> None:
        """Open the spool where that is due. One that another gateway uses is as good as none."""
        try:
            await self._spool.care()
        except StoreError as error:
            log.warning("spool_not_open", error=str(error))
        GOES_TO.set(SPOOL if self.can_take else NOWHERE)

    async def run(self) -> None:
        """Care for the spool, for ever."""
        due = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._keeper.tick_seconds)
            self._keeper.tick()
            if clock() > due:
                due = clock() + _LOOK_SECONDS
                await self.care()


class _Forgotten:
    """Requests with a wrong signature: there is no store to keep them in, and they are answered 401 all the same."""

    def keep(self, source: Source, event_type: str, delivery: Delivery, reason: str) -> None:
        """Drop it; the receiver's log line tells of it."""


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
