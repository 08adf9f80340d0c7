"""What a row of the access table says, the five rights that rows grant, and how large requests may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from trunkline_runtime.identity.callers import Role

MOST_MESSAGE_BYTES = 32 * 1024 * 1024
"""The largest message, on which both ends of a channel agree: a transcript of hours with every word."""
MOST_REQUEST_BYTES = 4 * 1024 * 1024
"""The largest request, of methods of which the table does not say that they take large ones."""
COUNTED_ROUTES = ("api", "media", "grpc")
"""What has hourly limits of its own: HTTP under /v1, the bytes of recordings, and gRPC at Envoy."""

GATEWAY = frozenset({"gateway"})
AUDIO = frozenset({"audio"})
AI = frozenset({"ai"})
EDGE = frozenset({"edge"})
ANY_SERVICE = frozenset({"*"})
OPEN_PREFIXES = ("/grpc.health.v1.", "/grpc.reflection.")


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method.

    `role` is the least role of a user or an API key (None: none of them may). `services` are the services that may.
    `resource` is the path of the field that holds the resource name or the parent (`call.name`; empty: the
    method is not about one tenant, so nobody who is confined to one may call it). `also` are further names
    that must be of the same tenant. `large` methods take requests of MOST_MESSAGE_BYTES, others of
    MOST_REQUEST_BYTES. `scans` methods may look at many rows: few of one tenant run at once (rpc/scans.py).
    """

    role: Role | None
    resource: str = ""
    also: tuple[str, ...] = ()
    services: frozenset[str] = GATEWAY
    operators: bool = True
    large: bool = False
    scans: bool = False

    @property
    def most_bytes(self) -> int:
        """The largest request."""
        return MOST_MESSAGE_BYTES if self.large else MOST_REQUEST_BYTES


# Each is made with the field that names the resource, and with further names. Operators and the gateway may call
# all of them but the internal ones.
read = partial(Rule, Role.VIEWER)
write = partial(Rule, Role.MEMBER)
manage = partial(Rule, Role.ADMIN)
operate = partial(Rule, None)
internal = partial(Rule, None, operators=False)


def package(name: str, **services: Mapping[str, Rule]) -> dict[str, Rule]:
    """Return the rules of a proto package's services by full method name."""
    return {
        f"/{name}.{service}/{method}": rule
        for service, methods in services.items()
        for method, rule in methods.items()
    }
