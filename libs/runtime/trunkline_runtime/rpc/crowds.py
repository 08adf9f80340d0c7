"""How many requests of one owner a server works on at once, so that one owner never takes the requests of all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trunkline_runtime.errors import ResourceExhausted
from trunkline_runtime.identity.callers import Caller

# Of health and reflection, of calls and of streams each: probes, and the watches of clients that balance, also of
# several pods behind one address.
_MOST_OF_ADDRESS = 64


class Crowds:
    """Counts the requests that are open: by tenant, and by address those that anybody may make."""

    def __init__(self, most_of_tenant: int, most: int, most_of_address: int = _MOST_OF_ADDRESS) -> None:
        """`most` is how many requests there may be of all: a tenant gets one more while more are free than it has."""
        self._most_of_tenant = most_of_tenant
        self._most = most
        self._most_of_address = most_of_address
        self._open: dict[str, int] = {}
        self._of_tenants = 0

    @contextmanager
    def of_tenant(self, caller: Caller) -> Iterator[None]:
        """Count a request of a tenant's key while the block runs; others are not counted. Raises ResourceExhausted."""
        if not caller.tenant:
            yield
            return
        room = min(self._most_of_tenant, self._most - self._of_tenants)
        with self._counted(f"tenants/{caller.tenant}", "a tenant", room):
            self._of_tenants += 1
            try:
                yield
            finally:
                self._of_tenants -= 1

    @contextmanager
    def of_address(self, context: Any, *, lasts: bool) -> Iterator[None]:
        """Count a request that anybody may make while the block runs. Raises ResourceExhausted.

        Streams, which last, are counted by themselves: behind a proxy's address, they leave room for its probes.
        """
        address = str(context.peer()).rpartition(":")[0]
        owner = f"{address} streams" if lasts else address
        with self._counted(owner, "an address", self._most_of_address):
            yield

    @contextmanager
    def _counted(self, owner: str, kind: str, most: int) -> Iterator[None]:
        now = self._open.get(owner, 0)
        if now >= most:
            message = f"{kind} can have {max(0, most)} such requests open now; try again in a moment"
            raise ResourceExhausted(message, reason="CALLS_AT_ONCE", retry_after=1.0)
        self._open[owner] = now + 1
        try:
            yield
        finally:
            left = self._open[owner] - 1
            if left:
                self._open[owner] = left
            else:
                del self._open[owner]
