"""The control plane: serves Envoys their listeners, routes, clusters and endpoints, and what changes of them.

Both forms of the protocol are served, state of the world and delta, over one stream for all types or one for each. A
version is a digest of what it names, so that a control plane that was started again sends nothing twice. It listens on
loopback, beside its Envoy: what it says decides where requests go.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import grpc.aio
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource,
)
from envoy_data_plane.google.protobuf import Any as Packed
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter

from trunkline_cli.edge.clusters import assignment, clusters
from trunkline_cli.edge.layout import CLUSTERS, POLICY, Edge
from trunkline_cli.edge.listeners import listener
from trunkline_cli.edge.routes import route_configuration

log = get_logger(__name__)

_CONFIG = "type.googleapis.com/envoy.config."
CDS, EDS = f"{_CONFIG}cluster.v3.Cluster", f"{_CONFIG}endpoint.v3.ClusterLoadAssignment"
LDS, RDS = f"{_CONFIG}listener.v3.Listener", f"{_CONFIG}route.v3.RouteConfiguration"
TYPES = (CDS, EDS, LDS, RDS)
"""In the order in which changes are sent: what is referred to comes before what refers to it."""
_SERVICES = {
    "envoy.service.discovery.v3.AggregatedDiscoveryService": ("AggregatedResources", ""),
    "envoy.service.cluster.v3.ClusterDiscoveryService": ("Clusters", CDS),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": ("Endpoints", EDS),
    "envoy.service.listener.v3.ListenerDiscoveryService": ("Listeners", LDS),
    "envoy.service.route.v3.RouteDiscoveryService": ("Routes", RDS),
}
_MOST_STREAMS = 256
_MOST_WAITING = 64


@dataclass(frozen=True, slots=True)
class Version:
    """One resource, and the digest that names this state of it."""

    packed: Packed
    digest: str


Snapshot = Mapping[str, Mapping[str, Version]]
"""Resources by type and name."""


def snapshot(edge: Edge, before: tuple[Edge, Snapshot] | None = None) -> Snapshot:
    """Return what an edge's Envoys are served.

    `before` is an earlier edge with its snapshot: where only endpoints differ, the rest is taken over. To make it
    anew takes half a second of processor time, which an endpoint that is gone should not last.
    """
    ends = {name: edge.endpoints["tenant" if name == POLICY else name] for name in CLUSTERS}
    assignments = _versions(assignment(name, addresses) for name, addresses in ends.items())
    if before is not None and replace(before[0], endpoints=edge.endpoints) == edge:
        return {**before[1], EDS: assignments}
    made: dict[str, list[Any]] = {
        CDS: clusters(edge, discovered=True),
        LDS: [listener(edge, discovered=True)],
        RDS: [route_configuration(edge)],
    }
    return {**{kind: _versions(resources) for kind, resources in made.items()}, EDS: assignments}


@dataclass(slots=True)
class State:
    """What one Envoy has of one type: the version it acknowledged last, and why it refused a later one."""

    acknowledged: str = ""
    refused: str = ""


class ControlPlane:
    """Serves a snapshot to every stream, and each later one."""

    def __init__(self, first: Snapshot) -> None:
        self.snapshot = first
        self.states: dict[tuple[str, str], State] = {}
        """By node and type."""
        self._streams: set[_EnvoyStream] = set()
        self._answers = counter(
            "trunkline_xds_answers_total", "Answers of Envoys to what they were sent", ["type", "verdict"]
        )

    def publish(self, changed: Snapshot) -> None:
        """Serve another snapshot from now on."""
        if changed == self.snapshot:
            return
        self.snapshot = changed
        log.info("xds_published", streams=len(self._streams), endpoints=sorted(changed[EDS]))
        for stream in self._streams:
            stream.wake()

    async def follow(self, edges: AsyncIterator[Edge], before: Edge) -> None:
        """Serve each edge from now on; `before` is what is served. One that nothing can be made of changes nothing."""
        async for changed in edges:
            try:
                made = snapshot(changed, (before, self.snapshot))
            except Exception as error:  # whatever Envoy's types say of a value
                log.exception("edge_unreadable", error=str(error)[:500])
                continue
            self.publish(made)
            before = changed

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve all discovery services."""
        for service, (what, kind) in _SERVICES.items():
            methods: dict[str, Any] = {
                f"Stream{what}": _handler(self._handle(_WorldStream, kind), DiscoveryRequest),
                f"Delta{what}": _handler(self._handle(_DeltaStream, kind), DeltaDiscoveryRequest),
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))

    def answered(self, node: str, kind: str, version: str, error: str) -> None:
        """Note an ACK, or a NACK with its error."""
        state = self.states.setdefault((node, kind), State())
        name = kind.rpartition(".")[2]
        self._answers.labels(name, "refused" if error else "acknowledged").inc()
        if error:
            state.refused = error
            log.error("xds_refused", node=node, type=name, version=version, error=error[:500])
        else:
            state.acknowledged, state.refused = version, ""
            log.info("xds_acknowledged", node=node, type=name, version=version)

    def _handle(self, make: Any, kind: str) -> Any:
        async def handle(requests: AsyncIterator[Any], context: Any) -> None:
            if len(self._streams) >= _MOST_STREAMS:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
            stream = make(self, kind, context)
            self._streams.add(stream)
            try:
                await stream.serve(requests)
            finally:
                self._streams.discard(stream)

        return handle


@dataclass(slots=True)
class _Sent:
    """What a stream was sent of one type."""

    names: set[str] = field(default_factory=set)
    everything: bool = False
    known: dict[str, str] = field(default_factory=dict)
    nonce: str = ""
    version: str = ""


class _EnvoyStream:
    """One stream of one Envoy: its requests, and the news of snapshots, one after another."""

    def __init__(self, plane: ControlPlane, kind: str, context: Any) -> None:
        self._plane = plane
        self._kind = kind
        self._context = context
        self._queue: asyncio.Queue[Any] = asyncio.Queue(_MOST_WAITING)
        self._news = False
        self._node = ""
        self._sent: dict[str, _Sent] = {}
        self._nonces = itertools.count(1)

    def wake(self) -> None:
        """Tell the stream that there is another snapshot."""
        if not self._news:
            self._news = True
            if self._queue.empty():
                self._queue.put_nowait(None)

    async def serve(self, requests: AsyncIterator[Any]) -> None:
        """Serve until the Envoy hangs up."""
        reading = asyncio.ensure_future(self._read(requests))
        try:
            while True:
                request = await self._queue.get()
                if self._news:
                    self._news = False
                    for kind in TYPES:
                        if kind in self._sent:
                            await self._send_changes(kind)
                if request is reading:
                    return
                if request is not None:
                    await self._take(request)
        finally:
            reading.cancel()

    async def _read(self, requests: AsyncIterator[Any]) -> None:
        me = asyncio.current_task()
        try:
            async for request in requests:
                await self._queue.put(request)
        finally:
            with_room = self._queue
            if with_room.full():
                with_room.get_nowait()
            with_room.put_nowait(me)

    async def _take(self, request: Any) -> None:
        kind = self._kind or request.type_url
        if request.node is not None and request.node.id:
            self._node = request.node.id
        if kind not in TYPES:
            return None
        sent = self._sent.get(kind)
        first = sent is None
        if sent is None:
            sent = self._sent[kind] = _Sent()
        if request.response_nonce:
            if request.response_nonce != sent.nonce:
                return await self._subscribe(kind, sent, request, first=first, stale=True)
            error = request.error_detail.message or "refused" if request.error_detail is not None else ""
            self._plane.answered(self._node, kind, sent.version, error)
        return await self._subscribe(kind, sent, request, first=first, stale=False)

    def _wanted(self, kind: str, sent: _Sent) -> Mapping[str, Version]:
        there = self._plane.snapshot[kind]
        return there if sent.everything else {name: there[name] for name in sent.names if name in there}

    async def _subscribe(self, kind: str, sent: _Sent, request: Any, *, first: bool, stale: bool) -> None:
        raise NotImplementedError

    async def _send_changes(self, kind: str) -> None:
        raise NotImplementedError


class _WorldStream(_EnvoyStream):
    """Sends all that is wanted of a type whenever any of it changes."""

    async def _subscribe(self, kind: str, sent: _Sent, request: Any, *, first: bool, stale: bool) -> None:
        if stale:
            return
        names = set(request.resource_names)
        changed = first or names != sent.names
        sent.names, sent.everything = names, not names and kind in (CDS, LDS)
        if changed or not sent.version:
            await self._send(kind, sent)

    async def _send_changes(self, kind: str) -> None:
        sent = self._sent[kind]
        if _digest_of(self._wanted(kind, sent)) != sent.version:
            await self._send(kind, sent)

    async def _send(self, kind: str, sent: _Sent) -> None:
        wanted = self._wanted(kind, sent)
        sent.version, sent.nonce = _digest_of(wanted), str(next(self._nonces))
        if kind == CDS and EDS in self._sent:
            self._sent[EDS].version = ""  # a cluster that changed waits for its endpoints anew
        answer = DiscoveryResponse(
            version_info=sent.version,
            resources=[one.packed for one in wanted.values()],
            type_url=kind,
            nonce=sent.nonce,
        )
        await self._context.write(answer)


class _DeltaStream(_EnvoyStream):
    """Sends what changed."""

    async def _subscribe(self, kind: str, sent: _Sent, request: Any, *, first: bool, stale: bool) -> None:
        new = set(request.resource_names_subscribe)
        if first:
            sent.known.update(request.initial_resource_versions)
            sent.everything = kind in (CDS, LDS) and (not new or "*" in new)
        sent.names |= new - {"*"}
        sent.names -= set(request.resource_names_unsubscribe)
        for name in (*request.resource_names_unsubscribe, *(() if first else new)):
            sent.known.pop(name, None)  # asked for again, it is sent again
        await self._send_changes(kind, missing=new - {"*"}, always=first)

    async def _send_changes(
        self, kind: str, *, missing: set[str] | None = None, always: bool = False
    ) -> None:
        sent = self._sent[kind]
        wanted = self._wanted(kind, sent)
        changed = {name: one for name, one in wanted.items() if sent.known.get(name) != one.digest}
        gone = {name for name in sent.known if name not in wanted}
        gone |= {name for name in missing or () if name not in wanted}
        if not changed and not gone and not always:
            return
        for name in gone:
            sent.known.pop(name, None)
        sent.known.update({name: one.digest for name, one in changed.items()})
        sent.version, sent.nonce = _digest_of(wanted), str(next(self._nonces))
        resources = [
            Resource(name=name, version=one.digest, resource=one.packed) for name, one in changed.items()
        ]
        answer = DeltaDiscoveryResponse(
            system_version_info=sent.version,
            resources=resources,
            type_url=kind,
            removed_resources=sorted(gone),
            nonce=sent.nonce,
        )
        await self._context.write(answer)


def _handler(handle: Any, request: Any) -> Any:
    return grpc.stream_stream_rpc_method_handler(
        handle, request_deserializer=request.parse, response_serializer=bytes
    )


def _versions(resources: Iterable[Any]) -> dict[str, Version]:
    return {_name(one): _version(one) for one in resources}


def _name(resource: Any) -> str:
    return str(getattr(resource, "cluster_name", "") or resource.name)


def _version(resource: Any) -> Version:
    packed = Packed.pack(resource)
    return Version(packed, hashlib.sha256(bytes(packed)).hexdigest()[:16])


def _digest_of(resources: Mapping[str, Version]) -> str:
    told = "\n".join(f"{name} {one.digest}" for name, one in sorted(resources.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]
