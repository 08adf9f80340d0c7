"""Where the control plane learns of endpoints: a file that is watched, or the EndpointSlices of Kubernetes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from trunkline_runtime.observe.logs import get_logger

from trunkline_cli.edge.layout import GATEWAY_HTTP, Edge, parsed, read
from trunkline_cli.screen import Misuse

log = get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]
_LOOK_SECONDS = 0.2
_REST_SECONDS = 1.0
_WATCH_SECONDS = 240
_MOST_SLICES = 10_000
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Of each cluster the Service and the name of its port.
PORTS = {
    GATEWAY_HTTP: ("gateway-http", "http"),
    "gateway": ("gateway", "grpc"),
    "tenant": ("tenant", "grpc"),
    "audio": ("audio", "grpc"),
    "ai": ("ai", "grpc"),
}
Slice = Mapping[str, Any]
# What comes of an answer that is not as the API says.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


async def watched(file: Path, *, sleep: Sleep = asyncio.sleep) -> AsyncIterator[Edge]:
    """Yield the edge that a file describes, and again when the file changes. One that is damaged changes nothing.

    Raises Misuse when it is wrong from the start.
    """
    edge = read(file)
    yield edge
    seen = _mark(file)
    while True:
        await sleep(_LOOK_SECONDS)
        mark = _mark(file)
        if mark == seen:
            continue
        seen = mark
        try:
            changed = parsed(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            log.error("edge_unreadable", path=str(file), error=str(error))
            continue
        if changed != edge:
            edge = changed
            yield edge


async def of_kubernetes(
    edge: Edge, namespace: str, client: httpx.AsyncClient, *, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[Edge]:
    """Yield the edge with the endpoints of a namespace's Services, and again when they change.

    While the API server can't be asked, what it said last stays.
    """
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    while True:
        try:
            listed = (await client.get(path)).raise_for_status().json()
            slices: dict[str, Slice] = {one["metadata"]["name"]: one for one in listed.get("items", [])}
            edge = dataclasses.replace(edge, endpoints=endpoints_of(slices))
            yield edge
            version = listed["metadata"]["resourceVersion"]
            params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS)}
            async with client.stream("GET", path, params=params, timeout=_WATCH_SECONDS + 10) as events:
                events.raise_for_status()
                async for line in events.aiter_lines():
                    if not line or not _took(slices, json.loads(line)):
                        continue
                    changed = dataclasses.replace(edge, endpoints=endpoints_of(slices))
                    if changed != edge:
                        edge = changed
                        yield edge
        except (httpx.HTTPError, OSError, *_DAMAGED) as error:
            log.warning("endpoints_unknown", kind=type(error).__name__)
            await sleep(_REST_SECONDS)


def endpoints_of(slices: Mapping[str, Slice]) -> dict[str, tuple[str, ...]]:
    """Return the endpoints of every cluster that are ready."""
    found: dict[str, set[str]] = {name: set() for name in PORTS}
    for one in slices.values():
        service = one["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
        ports = {port.get("name"): port.get("port") for port in one.get("ports") or []}
        for cluster, (wanted, port_name) in PORTS.items():
            if service != wanted or not ports.get(port_name):
                continue
            for endpoint in one.get("endpoints") or []:
                if endpoint.get("conditions", {}).get("ready", True):
                    found[cluster] |= {_address(host, ports[port_name]) for host in endpoint["addresses"]}
    return {name: tuple(sorted(addresses)) for name, addresses in found.items()}


def cluster_client(
    account: Path = ACCOUNT, server: str = "https://kubernetes.default.svc"
) -> httpx.AsyncClient:
    """Return a client of the API server that the pod's own account gives. Raises Misuse outside of a pod."""
    import ssl  # noqa: PLC0415 -- only a pod needs it

    authority = account / "ca.crt"
    try:
        context = ssl.create_default_context(cafile=str(authority))
    except OSError as error:
        raise Misuse(
            f"cannot read {authority}: {error.strerror}; --kubernetes runs in a pod with a service account"
        ) from None

    async def authorize(request: httpx.Request) -> None:
        # Read for every request: the token is rotated.
        request.headers["authorization"] = f"Bearer {(account / 'token').read_text().strip()}"

    return httpx.AsyncClient(
        base_url=server, verify=context, event_hooks={"request": [authorize]}, timeout=10, trust_env=False
    )


def _took(slices: dict[str, Slice], event: Mapping[str, Any]) -> bool:
    """Take an event of a watch; say whether it may have changed anything. Raises ValueError when the watch is over."""
    kind, one = event.get("type"), event.get("object", {})
    if kind == "ERROR":
        raise ValueError(one.get("message", "the watch ended"))
    name = one.get("metadata", {}).get("name")
    if kind == "DELETED":
        return slices.pop(name, None) is not None
    if kind not in ("ADDED", "MODIFIED") or len(slices) >= _MOST_SLICES:
        return False
    slices[name] = one
    return True


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _mark(file: Path) -> tuple[int, ...]:
    try:
        stat = file.stat()
    except OSError:
        return ()
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
