"""Envoy's clusters: where the services are, how they are watched, and how much they are asked at once."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    CircuitBreakersThresholdsRetryBudget,
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    HealthCheckHttpHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    SocketAddress,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HttpProtocolOptions as CommonOptions,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any

from trunkline_cli.edge import certificates
from trunkline_cli.edge.layout import CLUSTERS, GATEWAY_HTTP, POLICY, Edge

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Shorter than the gateway keeps a connection that is idle, so that none is closed under a request.
_IDLE = timedelta(seconds=3)


def clusters(edge: Edge, *, discovered: bool = False) -> list[Cluster]:
    """Return all clusters; `discovered` ones take their endpoints from the control plane."""
    return [cluster(edge, name, discovered=discovered) for name in CLUSTERS]


def cluster(edge: Edge, name: str, *, discovered: bool = False) -> Cluster:
    """Return one cluster."""
    addresses = edge.endpoints["tenant" if name == POLICY else name]
    made = Cluster(
        name=name,
        connect_timeout=timedelta(seconds=1),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        health_checks=[_health(name)],
        # A replica that fails is left alone for a while; never more than half of them.
        outlier_detection=OutlierDetection(
            consecutive_5xx=20,
            consecutive_gateway_failure=5,
            enforcing_consecutive_gateway_failure=100,
            interval=timedelta(seconds=2),
            base_ejection_time=timedelta(seconds=10),
            max_ejection_percent=50,
        ),
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(
                    max_connections=1_024,
                    max_pending_requests=1_024,
                    max_requests=4_096,
                    # A fifth of the requests in flight may be retries, and twenty in any case.
                    retry_budget=CircuitBreakersThresholdsRetryBudget(
                        budget_percent=Percent(value=20.0), min_retry_concurrency=20
                    ),
                )
            ]
        ),
        typed_extension_protocol_options={OPTIONS: Any.pack(_protocol(name))},
        ignore_health_on_host_removal=True,
    )
    if name != GATEWAY_HTTP:
        made.transport_socket = certificates.upstream(edge, "tenant" if name == POLICY else name)
    if discovered:
        made.type = ClusterDiscoveryType.EDS
        made.eds_cluster_config = ClusterEdsClusterConfig(eds_config=from_control_plane())
    else:
        numbers = all(_is_number(address) for address in addresses)
        made.type = ClusterDiscoveryType.STATIC if numbers else ClusterDiscoveryType.STRICT_DNS
        made.load_assignment = assignment(name, addresses)
    return made


def assignment(name: str, addresses: Iterable[str]) -> ClusterLoadAssignment:
    """Return the endpoints of a cluster."""
    endpoints = [LbEndpoint(endpoint=Endpoint(address=socket_address(address))) for address in addresses]
    return ClusterLoadAssignment(
        cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)] if endpoints else []
    )


def socket_address(address: str) -> Address:
    """Return host:port as Envoy has it."""
    host, _, port = address.rpartition(":")
    return Address(socket_address=SocketAddress(address=host.strip("[]"), port_value=int(port)))


def from_control_plane() -> ConfigSource:
    """Say that something comes over the stream to the control plane; what was served last stays while it is down."""
    return ConfigSource(
        ads=AggregatedConfigSource(),
        resource_api_version=ApiVersion.V3,
        initial_fetch_timeout=timedelta(seconds=5),
    )


def _health(name: str) -> HealthCheck:
    check = HealthCheck(
        timeout=timedelta(seconds=1),
        interval=timedelta(seconds=2),
        no_traffic_interval=timedelta(seconds=2),
        unhealthy_threshold=2,
        healthy_threshold=1,
        reuse_connection=False,
    )
    if name == GATEWAY_HTTP:
        check.http_health_check = HealthCheckHttpHealthCheck(path="/readyz", host="edge")
    else:
        check.grpc_health_check = HealthCheckGrpcHealthCheck()
    return check


def _protocol(name: str) -> HttpProtocolOptions:
    common = CommonOptions(idle_timeout=_IDLE)
    if name == GATEWAY_HTTP:
        spoken = HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
    else:
        spoken = HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions(max_concurrent_streams=500)
        )
        common = CommonOptions(idle_timeout=timedelta(seconds=60))
    return HttpProtocolOptions(common_http_protocol_options=common, explicit_http_config=spoken)


def _is_number(address: str) -> bool:
    try:
        ipaddress.ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
