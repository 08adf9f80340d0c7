"""Which addresses the service may connect to: the public internet, and what an operator names."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

from cachetools import TTLCache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]

KEPT_SECONDS = 5.0
_MOST_KEPT = 1_000
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Every public IPv6 address is in here; the rest is local, special or given to nobody (fec0::/10, 64:ff9b:1::/48).
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
# Special networks that `is_global` takes for public, in one version of Python or another.
_SPECIAL: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments
    ipaddress.IPv4Network("192.88.99.0/24"),  # relays between IPv6 and IPv4
    ipaddress.IPv4Network("192.31.196.0/24"),  # AS112: answers for private names
    ipaddress.IPv4Network("192.175.48.0/24"),
    ipaddress.IPv4Network("192.52.193.0/24"),  # multicast relays
    ipaddress.IPv6Network("2001::/23"),  # protocol assignments
    ipaddress.IPv6Network("2620:4f:8000::/48"),
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)


class AddressPolicy:
    """Refuses addresses that are private, loopback, link-local, multicast or otherwise not global.

    `allowed` holds networks in CIDR form that are let through all the same ("127.0.0.0/8" for a laptop).
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed: list[Network] = [ipaddress.ip_network(network) for network in allowed]
        self._judged = lru_cache(maxsize=4096)(self._judge)

    def permits(self, text: str) -> bool:
        """Whether a connection to this literal address may be made."""
        return self._judged(text)

    def _judge(self, text: str) -> bool:
        # A zone ("fe80::1%eth0") only exists on link-local addresses.
        address = ipaddress.ip_address(text.partition("%")[0])
        return all(self._permits(part) for part in _with_embedded(address))

    def _permits(self, address: Address) -> bool:
        if _in(address, self._allowed):
            return True
        if isinstance(address, ipaddress.IPv6Address) and address not in _IPV6_UNICAST:
            return False
        return address.is_global and not (
            address.is_multicast or address.is_reserved or address.is_unspecified or _in(address, _SPECIAL)
        )


def _in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _with_embedded(address: Address) -> list[Address]:
    """The address as it will be reached: an IPv6 form that only carries an IPv4 address counts as that."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if int(address) >> 32 == 0 and int(address) > 1:  # ::a.b.c.d, deprecated but still routed by some
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]


class Resolver:
    """Resolves hosts as the system does, in threads of its own; it also turns forms such as 0x7f.1 into plain ones.

    An answer is good for KEPT_SECONDS: a recording takes two requests to one host, and the next calls ask there too.

    A name whose servers do not answer holds a thread for half a minute, and anybody may own such names. The threads of
    the event loop are few, and read and write the bytes of all tenants.
    """

    def __init__(self, at_once: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = ThreadPoolExecutor(at_once, "resolve")
        self._known: TTLCache[tuple[str, int], list[str]] = TTLCache(_MOST_KEPT, KEPT_SECONDS, clock)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host. Raises OSError."""
        known = self._known.get((host, port))
        if known is not None:
            return known
        asked = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, asked)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self._known[host, port] = addresses
        return addresses

    def close(self) -> None:
        """Let the threads go, each once its name is answered."""
        self._threads.shutdown(wait=False, cancel_futures=True)
