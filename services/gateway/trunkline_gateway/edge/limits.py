"""What one connection may take of the gateway, and how many there may be."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass

from trunkline_runtime.observe.metrics import counter, gauge

REFUSED = counter(
    "trunkline_http_refused_total", "HTTP requests and connections that were ended at the edge", ["reason"]
)
# What appears with its first count has no rate, and these are in the budget of errors.
for _reason in ("too_many_connections", "too_many_bodies"):
    REFUSED.labels(_reason)
CONNECTIONS = gauge("trunkline_http_connections", "HTTP connections that are open")
BODY_BYTES = gauge("trunkline_http_body_bytes", "Bytes of HTTP bodies that have not arrived completely")
MOST_REFUSED = 256
"""Connections over the limit that are told so; further ones are dropped without a word."""

FREE_BODY_BYTES = 16_384
"""Of each body not counted, so that ordinary webhooks are taken however much else is on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """Bounds of a connection. Times are in seconds, and kept to within half a second."""

    head_bytes: int = 32_768
    head_fields: int = 100
    head_seconds: float = 10.0
    """For a head to be whole, and for a new connection to begin one."""
    bytes_per_second: int = 1_024
    """The least rate of a body that comes and of an answer that is read, after `grace_seconds`."""
    grace_seconds: float = 10.0
    quiet_seconds: float = 20.0
    """The longest pause within a body, and of a reader within an answer."""
    body_seconds: float = 120.0
    passed_bytes_per_second: int = 16_384
    """The least rate of a body that is passed on as it comes, after `grace_seconds`: such a one may be large."""
    passed_seconds: float = 3_600.0
    """For such a body to be whole."""
    body_bytes: int = 268_435_456
    """Of all bodies together that have begun and not ended, but for the first FREE_BODY_BYTES of each."""
    body_bytes_per_address: int = 67_108_864
    connections: int = 4_096
    connections_per_address: int = 1_024
    requests_ahead: int = 100
    """Requests that may be sent on a connection before the first of them is answered."""


class Register:
    """Counts the connections that are open, in all and by the address they come from."""

    def __init__(self, limits: EdgeLimits) -> None:
        """Begin with none."""
        self.limits = limits
        self._open = 0
        self._by_address: Counter[str] = Counter()
        self._body_bytes = 0
        self._body_bytes_by_address: Counter[str] = Counter()

    def enter(self, host: str) -> str:
        """Count a connection; return why it is one too many, empty when it is not. Every one leaves."""
        address = _network(host)
        self._open += 1
        self._by_address[address] += 1
        CONNECTIONS.set(self._open)
        if self._open > self.limits.connections:
            return "TOO_MANY_CONNECTIONS"
        if self._by_address[address] > self.limits.connections_per_address:
            return "TOO_MANY_CONNECTIONS_OF_ADDRESS"
        return ""

    def hold(self, host: str, change: int) -> str:
        """Count bytes of a body that has not ended; return why they are too many, empty when they are not.

        What is counted is taken back with a negative `change`, also when it was too much.
        """
        address = _network(host)
        self._body_bytes += change
        self._body_bytes_by_address[address] += change
        if not self._body_bytes_by_address[address]:
            del self._body_bytes_by_address[address]
        BODY_BYTES.set(self._body_bytes)
        if change <= 0:
            return ""
        if self._body_bytes > self.limits.body_bytes:
            return "TOO_MANY_BODIES"
        if self._body_bytes_by_address[address] > self.limits.body_bytes_per_address:
            return "TOO_MANY_BODIES_OF_ADDRESS"
        return ""

    @property
    def flooded(self) -> bool:
        """Whether even those that were refused are too many."""
        return self._open > self.limits.connections + MOST_REFUSED

    def leave(self, host: str) -> None:
        """Count a connection no more."""
        address = _network(host)
        self._open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        CONNECTIONS.set(self._open)


def _network(host: str) -> str:
    """Return what one sender has: an IPv4 address, or the /64 that every IPv6 host has to itself."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or (int(address) >> 64))
