"""What Envoy tells an orchestrator: whether it takes requests, and its metrics. Nothing else of its admin address."""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.health_check.v3 import HealthCheck
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from trunkline_cli.edge.clusters import assignment, socket_address
from trunkline_cli.edge.layout import Edge

NAME = "status"
ADMIN = "admin"
READY, METRICS = "/ready", "/metrics"


def listener(edge: Edge) -> Listener:
    """Return the listener of probes: 200 at /ready, 503 once Envoy was told that it will end; metrics at /metrics."""
    asked = HeaderMatcher(name=":path", string_match=StringMatcher(exact=READY))
    health = HealthCheck(pass_through_mode=False, headers=[asked])
    metrics = Route(
        name="metrics",
        match=RouteMatch(
            path=METRICS,
            headers=[HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET"))],
        ),
        route=RouteAction(
            cluster=ADMIN, prefix_rewrite="/stats/prometheus?usedonly", timeout=timedelta(seconds=5)
        ),
    )
    manager = HttpConnectionManager(
        stat_prefix=NAME,
        route_config=RouteConfiguration(
            name=NAME, virtual_hosts=[VirtualHost(name=NAME, domains=["*"], routes=[metrics])]
        ),
        request_headers_timeout=timedelta(seconds=5),
        stream_idle_timeout=timedelta(seconds=10),
        http_filters=[
            HttpFilter(name="envoy.filters.http.health_check", typed_config=Any.pack(health)),
            HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router())),
        ],
    )
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))]
    )
    return Listener(
        name=NAME,
        address=socket_address(edge.status),
        filter_chains=[chain],
        # Probes are answered also when the edge has all the connections that it may have.
        ignore_global_conn_limit=True,
    )


def cluster(edge: Edge) -> Cluster:
    """Return Envoy's own admin address, which only this listener reaches, at one path."""
    return Cluster(
        name=ADMIN,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=1),
        load_assignment=assignment(ADMIN, [edge.admin]),
    )
