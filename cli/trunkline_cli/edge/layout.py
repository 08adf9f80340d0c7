"""What the edge is told: where it listens, where the services are, and what a request may take."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline_runtime import forms

from trunkline_cli.screen import Misuse

TOKEN_VARIABLE = "TRUNKLINE_TENANT_EDGE_TOKEN"
"""Envoy reads its token from its own environment, under the name that the tenant service has for it."""

GATEWAY_HTTP = "gateway-http"
POLICY = "policy"
CLUSTERS = (GATEWAY_HTTP, "gateway", "tenant", "audio", "ai", POLICY)
"""The clusters by name: HTTP of the gateway, gRPC of each service, and the tenant service once more for policy."""

_PATHS = ("certificate", "key", "ca", "client_certificate", "client_key", "secrets")
_ADDRESSES = ("listen", "admin", "status")
# The least of each number, and whether it is a whole one. With less, nothing would pass.
_LEAST: Mapping[str, tuple[float, bool]] = {
    "trusted_hops": (0, True),
    "connections": (1, True),
    "heap_bytes": (67_108_864, True),
    "asked_per_second": (4, True),
    "hook_bytes": (1, True),
    "api_bytes": (1, True),
    "head_seconds": (0.1, False),
    "quiet_seconds": (0.1, False),
    "policy_seconds": (0.01, False),
}
_MOST = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The settings of one edge. Addresses are host:port, of each cluster one or more."""

    listen: str = "0.0.0.0:8443"
    admin: str = "127.0.0.1:9901"
    certificate: Path = Path("var/edge/tls.crt")
    key: Path = Path("var/edge/tls.key")
    endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trusted_hops: int = 0
    """Proxies before the edge whose X-Forwarded-For is believed."""
    connections: int = 4_096
    heap_bytes: int = 805_306_368
    """What Envoy may hold; near it, requests that hold much end, and at last new ones are answered 503."""
    asked_per_second: int = 200
    """Requests a second that the tenant service is asked about, of one address a quarter. More are refused unasked."""
    hook_bytes: int = 1_048_576
    """As TRUNKLINE_GATEWAY_MAX_BODY_BYTES."""
    api_bytes: int = 1_048_576
    head_seconds: float = 10.0
    """For the head of a request to arrive."""
    quiet_seconds: float = 20.0
    """The longest pause within a request or an answer that is not a stream."""
    policy_seconds: float = 0.25
    """For the tenant service to answer whether a limit holds; twice that for who asks. After that, a request passes."""
    ca: Path | None = None
    """The certificate authority of the services, when they speak mTLS; then with `client_certificate` and its key."""
    client_certificate: Path | None = None
    client_key: Path | None = None
    secrets: Path | None = None
    """The folder where Envoy finds the files that name its certificates, which it then reads again when they change."""
    status: str = ""
    """Where probes and scrapes are answered, in plaintext; empty: nowhere."""


def standard_endpoints(host: str = "127.0.0.1") -> dict[str, tuple[str, ...]]:
    """Return the endpoints of a suite on its standard ports."""
    return {
        GATEWAY_HTTP: (f"{host}:8080",),
        "gateway": (f"{host}:50050",),
        "tenant": (f"{host}:50051",),
        "audio": (f"{host}:50052",),
        "ai": (f"{host}:50053",),
    }


def read(file: Path | None) -> Edge:
    """Return the edge that a JSON file describes: the fields of Edge by name; without a file that of `make up`.

    Raises Misuse that says what is wrong.
    """
    if file is None:
        return Edge(endpoints=standard_endpoints())
    try:
        return parsed(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misuse(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise Misuse(f"{file}: {error}") from None


def parsed(text: str) -> Edge:
    """Return the edge that a JSON text describes. Raises ValueError."""
    try:
        told = json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(told, dict):
        raise ValueError("must be an object")
    kinds = {one.name: one for one in dataclasses.fields(Edge)}
    if unknown := sorted(set(told) - set(kinds)):
        raise ValueError(f"{', '.join(unknown)}: there is no such field; there are {', '.join(kinds)}")
    made = {name: _value(name, value) for name, value in told.items() if name != "endpoints"}
    if len({name in made for name in ("ca", "client_certificate", "client_key")}) > 1:
        raise ValueError("ca, client_certificate and client_key go together")
    return Edge(**made, endpoints=endpoints_of(told.get("endpoints", standard_endpoints())))


def endpoints_of(told: Any) -> dict[str, tuple[str, ...]]:
    """Return the endpoints of every cluster. Raises ValueError."""
    wanted = set(standard_endpoints())
    if not isinstance(told, dict) or set(told) != wanted:
        raise ValueError(f"endpoints must have exactly {', '.join(sorted(wanted))}")
    for addresses in told.values():
        if not isinstance(addresses, (list, tuple)) or not all(isinstance(one, str) for one in addresses):
            raise ValueError("the endpoints of a cluster must be a list of host:port")
        for address in addresses:
            forms.split(address)
    return {name: tuple(addresses) for name, addresses in told.items()}


def _value(name: str, value: Any) -> Any:
    if name in _ADDRESSES:
        if not isinstance(value, str):
            raise ValueError(f"{name} must be host:port in quotation marks, such as 0.0.0.0:8443")
        if value or name != "status":
            forms.split(value)
        return value
    if name in _PATHS:
        if not isinstance(value, str) or not re.fullmatch(r"[^\0]{1,4096}", value):
            raise ValueError(f"{name} must be the path of a file")
        return Path(value)
    least, whole = _LEAST[name]
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= _MOST:
        number = "a whole number" if whole else "a number"
        raise ValueError(f"{name} must be {number} from {least} to {_MOST:,}")
    return value
