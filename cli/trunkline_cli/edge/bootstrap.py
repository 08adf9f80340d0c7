"""What Envoy starts with: everything by itself, or the address of the control plane that serves it."""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapDynamicResources,
    BootstrapStaticResources,
)
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import (
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    Node,
)
from envoy_data_plane.envoy.config.overload.v3 import (
    BufferFactoryConfig,
    OverloadAction,
    OverloadManager,
    ResourceMonitor,
    ScaledTrigger,
    ThresholdTrigger,
    Trigger,
)
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import (
    DownstreamConnectionsConfig,
)
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap.v3 import FixedHeapConfig
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.google.protobuf import Any
from trunkline_runtime.forms import is_loopback

from trunkline_cli.edge import status
from trunkline_cli.edge.clusters import OPTIONS, assignment, clusters, from_control_plane, socket_address
from trunkline_cli.edge.layout import Edge
from trunkline_cli.edge.listeners import listener
from trunkline_cli.screen import Misuse

CONTROL_PLANE = "control-plane"
_HEAP = "envoy.resource_monitors.fixed_heap"


def static(edge: Edge) -> Bootstrap:
    """Return a bootstrap that needs nobody. Raises Misuse for an admin address that others reach."""
    made = _bootstrap(edge)
    return _with(made, edge, BootstrapStaticResources(listeners=[listener(edge)], clusters=clusters(edge)))


def dynamic(edge: Edge, control_plane: str, *, delta: bool = True) -> Bootstrap:
    """Return a bootstrap whose listeners, routes, clusters and endpoints a control plane serves, at host:port."""
    made = _bootstrap(edge)
    spoken = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    asked = Cluster(
        name=CONTROL_PLANE,
        type=ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=timedelta(seconds=1),
        load_assignment=assignment(CONTROL_PLANE, [control_plane]),
        typed_extension_protocol_options={
            OPTIONS: Any.pack(HttpProtocolOptions(explicit_http_config=spoken))
        },
    )
    kind = ApiConfigSourceApiType.DELTA_GRPC if delta else ApiConfigSourceApiType.GRPC
    made.dynamic_resources = BootstrapDynamicResources(
        ads_config=ApiConfigSource(
            api_type=kind,
            transport_api_version=ApiVersion.V3,
            grpc_services=[GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=CONTROL_PLANE))],
        ),
        cds_config=from_control_plane(),
        lds_config=from_control_plane(),
    )
    return _with(made, edge, BootstrapStaticResources(clusters=[asked]))


def written(bootstrap: Bootstrap) -> str:
    """Return the JSON that Envoy reads."""
    # betterproto2 has its own idea of where a word begins after a digit.
    return bootstrap.to_json(indent=1).replace("onsecutive5Xx", "onsecutive5xx") + "\n"


def _with(made: Bootstrap, edge: Edge, resources: BootstrapStaticResources) -> Bootstrap:
    """Take resources, and the listener of probes, which is there whoever serves the rest."""
    if edge.status:
        resources.listeners.append(status.listener(edge))
        resources.clusters.append(status.cluster(edge))
    made.static_resources = resources
    return made


def _bootstrap(edge: Edge) -> Bootstrap:
    if not is_loopback(edge.admin):
        raise Misuse(f"Envoy's admin address must be on loopback; it is {edge.admin}")
    return Bootstrap(
        node=Node(id="edge", cluster="trunkline-edge"),
        admin=Admin(address=socket_address(edge.admin)),
        overload_manager=_overload(edge),
    )


def _overload(edge: Edge) -> OverloadManager:
    """Return the bounds of connections and of memory, and what is given up when memory gets short."""
    connections = DownstreamConnectionsConfig(max_active_downstream_connections=edge.connections)
    heap = FixedHeapConfig(max_heap_size_bytes=edge.heap_bytes)
    short = Trigger(name=_HEAP, threshold=ThresholdTrigger(value=0.8))
    # Begins with the largest, and comes to smaller ones as there is less left.
    shorter = Trigger(name=_HEAP, scaled=ScaledTrigger(scaling_threshold=0.85, saturation_threshold=0.95))
    gone = Trigger(name=_HEAP, threshold=ThresholdTrigger(value=0.95))
    return OverloadManager(
        refresh_interval=timedelta(milliseconds=100),
        resource_monitors=[
            ResourceMonitor(
                name="envoy.resource_monitors.global_downstream_max_connections",
                typed_config=Any.pack(connections),
            ),
            ResourceMonitor(name=_HEAP, typed_config=Any.pack(heap)),
        ],
        # Streams that hold 64 KiB or more are known by what they hold.
        buffer_factory_config=BufferFactoryConfig(minimum_account_to_track_power_of_two=16),
        actions=[
            OverloadAction(name="envoy.overload_actions.shrink_heap", triggers=[short]),
            OverloadAction(name="envoy.overload_actions.reset_high_memory_stream", triggers=[shorter]),
            OverloadAction(name="envoy.overload_actions.stop_accepting_requests", triggers=[gone]),
        ],
    )
