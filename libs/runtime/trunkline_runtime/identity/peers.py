"""Who is at the other end of a connection with mutual TLS, and whose requests it may carry.

A certificate names its holder as `<holder>.trunkline.internal` (a DNS name among its subject alternative names), both
when the holder serves and when it calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trunkline_runtime.identity.callers import Caller, CallerKind

DOMAIN = ".trunkline.internal"


@dataclass(frozen=True, slots=True)
class Peer:
    """A holder of certificates.

    `service` is the service whose tokens it may show, None for one that is no service. `carries`: it may hand on the
    requests of users, API keys and operators.
    """

    name: str
    service: str | None
    carries: bool

    def may_show(self, caller: Caller) -> bool:
        """Tell whether a caller's requests may come over a connection of this peer."""
        if caller.kind is CallerKind.ANONYMOUS:
            return True  # the access table says what comes of it
        if caller.kind is CallerKind.SERVICE:
            return caller.subject == self.service
        return self.carries


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("gateway", "gateway", carries=True),
        Peer("worker", "gateway", carries=False),  # the gateway in its other role
        Peer("tenant", "tenant", carries=False),
        Peer("audio", "audio", carries=False),
        Peer("ai", "ai", carries=False),
        Peer(
            "edge", "edge", carries=True
        ),  # the proxy in front, with a token of its own for what it asks itself
        Peer("operator", None, carries=True),  # somebody with grpcurl
    )
}


def host_of(name: str) -> str:
    """Return the DNS name that the certificate of a holder has."""
    return name + DOMAIN


def peers_of(names: Iterable[str]) -> list[Peer]:
    """Return the peers that a certificate's names stand for; other names say nothing."""
    holders = {name.removesuffix(DOMAIN) for name in names if name.endswith(DOMAIN)}
    return [PEERS[holder] for holder in sorted(holders) if holder in PEERS]


def peer_of(names: Iterable[str]) -> Peer | None:
    """Return the one peer that a certificate's names stand for, None when there is none or more than one."""
    found = peers_of(names)
    return found[0] if len(found) == 1 else None
