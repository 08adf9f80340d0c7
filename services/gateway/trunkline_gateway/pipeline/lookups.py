"""Asks a provider's API what an event does not say; an answer that does not come costs the call nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter

from trunkline_gateway.providers.base import Lookup
from trunkline_gateway.providers.origins import has_host_of, same_origin

if TYPE_CHECKING:
    import httpx

log = get_logger(__name__)

ASKED = counter("trunkline_worker_lookups_total", "Calls asked for at a provider's API.", ["outcome"])

Ask = Callable[[Lookup], Awaitable[bytes | None]]

_SECONDS = 5.0
_MOST_BYTES = 64 << 10
_AT_ONCE = 8


class Lookups:
    """Asks Twilio, and the origins that an operator allows: a source's own base is a tenant's to choose."""

    def __init__(self, allowed: tuple[str, ...] = ()):
        """`allowed` are origins such as `http://127.0.0.1:9000`."""
        self._allowed = allowed
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, lookup: Lookup) -> bytes | None:
        """Return the answer's body, None when there is none."""
        if not self._may_ask(lookup.url):
            return None
        import httpx  # noqa: PLC0415 - most workers never ask

        try:
            async with (
                self._turns,
                asyncio.timeout(_SECONDS),
                httpx.AsyncClient(timeout=_SECONDS, trust_env=False) as client,
                client.stream("GET", lookup.url, headers=dict(lookup.headers)) as answer,
            ):
                body = await _body(answer) if answer.status_code == 200 else None
                outcome = str(answer.status_code) if body is None else "ok"
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            body, outcome = None, type(error).__name__
        ASKED.labels("ok" if body is not None else "failed").inc()
        if body is None:
            log.warning("lookup_failed", outcome=outcome)
        return body

    def _may_ask(self, url: str) -> bool:
        return has_host_of(url, "twilio.com") or any(same_origin(url, origin) for origin in self._allowed)


async def _body(answer: httpx.Response) -> bytes | None:
    """Return the body; None when it is larger than any call's."""
    body = b""
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > _MOST_BYTES:
            return None
    return body
