"""Envoy's listener: TLS, HTTP/1.1 and 2, limits of connections and heads, and the filters that requests meet."""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, ExtensionFilter
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.ratelimit.v3 import RateLimitServiceConfig
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthz
from envoy_data_plane.envoy.extensions.filters.http.grpc_web.v3 import GrpcWeb
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import RateLimit
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerServerHeaderTransformation,
    HttpFilter,
    LocalReplyConfig,
    Rds,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any, Struct, Value

from trunkline_cli.edge import certificates, routes
from trunkline_cli.edge.clusters import from_control_plane, socket_address
from trunkline_cli.edge.layout import POLICY, TOKEN_VARIABLE, Edge

NAME = "edge"
# No query, no header of a caller's, no body: any of them may hold a secret.
LOGGED = {
    "time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "detail": "%RESPONSE_CODE_DETAILS%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "ms": "%DURATION%",
    "upstream_ms": "%RESPONSE_DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "route": "%ROUTE_NAME%",
    "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
}


def listener(edge: Edge, *, discovered: bool = False) -> Listener:
    """Return the one listener; `discovered` routes come from the control plane."""
    manager = HttpConnectionManager(
        stat_prefix=NAME,
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        use_remote_address=True,
        xff_num_trusted_hops=edge.trusted_hops,
        # Names in paths may hold an escaped slash, which stays one.
        normalize_path=True,
        merge_slashes=False,
        preserve_external_request_id=True,
        common_http_protocol_options=HttpProtocolOptions(
            # A connection without a request; nothing bounds how many one address has.
            idle_timeout=timedelta(seconds=10),
            max_headers_count=100,
            max_requests_per_connection=100_000,
        ),
        http2_protocol_options=Http2ProtocolOptions(
            # Each may hold a body of `hook_bytes`.
            max_concurrent_streams=32,
            initial_stream_window_size=262_144,
            initial_connection_window_size=1_048_576,
        ),
        max_request_headers_kb=32,
        request_headers_timeout=timedelta(seconds=edge.head_seconds),
        stream_idle_timeout=timedelta(seconds=60),
        delayed_close_timeout=timedelta(seconds=1),
        drain_timeout=timedelta(seconds=5),
        local_reply_config=_flooded(),
        access_log=[_access_log()],
        http_filters=_filters(edge),
    )
    if discovered:
        manager.rds = Rds(route_config_name=routes.NAME, config_source=from_control_plane())
    else:
        manager.route_config = routes.route_configuration(edge)
    chain = FilterChain(
        filters=[
            Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))
        ],
        transport_socket=certificates.downstream(edge),
        transport_socket_connect_timeout=timedelta(seconds=edge.head_seconds),
    )
    return Listener(
        name=NAME,
        address=socket_address(edge.listen),
        filter_chains=[chain],
        per_connection_buffer_limit_bytes=65_536,
    )


def _access_log() -> AccessLog:
    fields = {name: Value(string_value=command) for name, command in LOGGED.items()}
    log = StdoutAccessLog(log_format=SubstitutionFormatString(json_format=Struct(fields=fields)))
    return AccessLog(name="envoy.access_loggers.stdout", typed_config=Any.pack(log))


def _flooded() -> LocalReplyConfig:
    """Give the refusal of a flood the body that errors have; over gRPC a sentence does."""
    rule = 'response.code_details == "local_rate_limited" && '
    json_body = rule + 'request.url_path.startsWith("/v1/")'
    sentence = rule + '!request.url_path.startsWith("/v1/")'
    text = "too many requests at once; try again in a second"
    return LocalReplyConfig(
        mappers=[
            ResponseMapper(
                filter=_where(json_body),
                body=DataSource(inline_string=routes.error_body(429, "RESOURCE_EXHAUSTED", text)),
                body_format_override=SubstitutionFormatString(
                    text_format_source=DataSource(inline_string="%LOCAL_REPLY_BODY%"),
                    content_type="application/json",
                ),
            ),
            ResponseMapper(filter=_where(sentence), body=DataSource(inline_string=text)),
        ]
    )


def _where(expression: str) -> AccessLogFilter:
    chosen = Any.pack(ExpressionFilter(expression=expression))
    extension = ExtensionFilter(name="envoy.access_loggers.extension_filters.cel", typed_config=chosen)
    return AccessLogFilter(extension_filter=extension)


def _filters(edge: Edge) -> list[HttpFilter]:
    """Return the filters in their order: who asks, whether it may, and only then its body."""
    seen = [StringMatcher(exact="authorization"), StringMatcher(exact="content-type")]
    authz = ExtAuthz(
        grpc_service=_policy(2 * edge.policy_seconds),
        transport_api_version=ApiVersion.V3,
        # Whoever passes unasked shows its own credentials, and the services verify those.
        failure_mode_allow=True,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        allowed_headers=ListStringMatcher(patterns=seen),
        stat_prefix=NAME,
    )
    limit = RateLimit(
        domain="trunkline",
        timeout=timedelta(seconds=edge.policy_seconds),
        failure_mode_deny=False,
        rate_limited_as_resource_exhausted=True,
        rate_limit_service=RateLimitServiceConfig(
            grpc_service=_policy(edge.policy_seconds), transport_api_version=ApiVersion.V3
        ),
    )
    return [
        HttpFilter(name="envoy.filters.http.grpc_web", typed_config=Any.pack(GrpcWeb())),
        # It does nothing but where a route says so.
        HttpFilter(name=routes.FLOOD, typed_config=Any.pack(LocalRateLimit(stat_prefix=NAME))),
        HttpFilter(name=routes.AUTHZ, typed_config=Any.pack(authz)),
        HttpFilter(name=routes.RATE, typed_config=Any.pack(limit)),
        HttpFilter(name=routes.BUFFER, typed_config=Any.pack(Buffer(max_request_bytes=edge.api_bytes))),
        HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router())),
    ]


def _policy(seconds: float) -> GrpcService:
    return GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=POLICY),
        timeout=timedelta(seconds=seconds),
        # The token itself is in Envoy's environment only.
        initial_metadata=[HeaderValue(key="authorization", value=f"Bearer %ENVIRONMENT({TOKEN_VARIABLE})%")],
    )
