"""Envoy's routes: webhooks and `/v1` to the gateway, gRPC to the service of its package, and what each may take.

A webhook asks nobody: no policy service can refuse one, or be in its way. Everything else is authenticated and counted
by the tenant service. While that is down requests pass, and the services verify their credentials as they always do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    RuntimeFractionalPercent,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    RateLimit,
    RateLimitAction,
    RateLimitActionGenericKey,
    RateLimitActionMetaData,
    RateLimitActionMetaDataSource,
    RateLimitActionRemoteAddress,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteActionMaxStreamDuration,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptorEntry,
)
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer, BufferPerRoute
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import CheckSettings, ExtAuthzPerRoute
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher
from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment
from envoy_data_plane.envoy.type.v3 import (
    FractionalPercent,
    FractionalPercentDenominatorType,
    HttpStatus,
    StatusCode,
    TokenBucket,
)
from envoy_data_plane.google.protobuf import Any
from trunkline_runtime.identity import access

from trunkline_cli.edge.layout import GATEWAY_HTTP, Edge

NAME = "edge"
FLOOD, AUTHZ, RATE, BUFFER = (
    "envoy.filters.http.local_ratelimit",
    "envoy.filters.http.ext_authz",
    "envoy.filters.http.ratelimit",
    "envoy.filters.http.buffer",
)
# Recordings' bytes, which are passed on as they come.
MEDIA = r"/v1/tenants/[a-z0-9-]+/recordings(/[a-z0-9-]+(:|%3[Aa])download|(:|%3[Aa])upload)"
# Answers that come piece by piece, and may be silent for as long as they last.
WATCHES = r"/v1/[^?]*:watch"
# The addresses that are counted each by itself: the last ones that asked.
_MOST_ADDRESSES = 10_000
_STREAM_SECONDS = 660  # past the longest stream of the gateway's
_REFLECTION = "grpc.reflection."
_PACKAGES = {f"trunkline.{name}.v1": name for name in ("gateway", "tenant", "audio", "ai")}
# What is not of one service's package, and the gateway serves for all.
_COMMON = ("google.longrunning.Operations", _REFLECTION)
# Nothing was processed, so that any request may be sent again.
_UNSENT = "connect-failure,refused-stream,reset-before-request"


def route_configuration(edge: Edge) -> RouteConfiguration:
    """Return all routes, which are the same for every host name."""
    host = VirtualHost(
        name="all",
        domains=["*"],
        routes=[*_hooks(edge), *_probes(), *_api(edge), *_internal(), _unshown(), *_grpc(edge), _nowhere()],
        # What only proxies of our own would say.
        request_headers_to_remove=["x-envoy-original-path", "x-envoy-decorator-operation"],
        include_request_attempt_count=False,
    )
    return RouteConfiguration(name=NAME, virtual_hosts=[host])


def _hooks(edge: Edge) -> list[Route]:
    # A receipt that is stored twice is one event, so that a webhook may be sent again whatever became of it.
    retries = _retries(f"{_UNSENT},reset,retriable-status-codes", statuses=(503,), seconds=5)
    return [
        Route(
            name="hooks",
            match=RouteMatch(prefix="/hooks/"),
            route=RouteAction(
                cluster=GATEWAY_HTTP,
                timeout=timedelta(seconds=12),
                retry_policy=retries,
                # The body and the answer: whoever sends slowly ends here.
                max_stream_duration=RouteActionMaxStreamDuration(max_stream_duration=timedelta(seconds=60)),
                idle_timeout=timedelta(seconds=edge.quiet_seconds),
            ),
            typed_per_filter_config={**_unasked(), **_body(edge.hook_bytes)},
        )
    ]


def _probes() -> list[Route]:
    return [
        Route(
            name="ready",
            match=RouteMatch(path=path),
            route=RouteAction(cluster=GATEWAY_HTTP, timeout=timedelta(seconds=2)),
            typed_per_filter_config=_unasked(),
        )
        for path in ("/healthz", "/readyz")
    ]


def _api(edge: Edge) -> list[Route]:
    media = RouteAction(
        cluster=GATEWAY_HTTP,
        timeout=timedelta(0),  # for as long as bytes flow
        idle_timeout=timedelta(seconds=60),
        retry_policy=_retries(_UNSENT),
        rate_limits=_rate_limits("media"),
    )
    watch, api = (
        RouteAction(
            cluster=GATEWAY_HTTP,
            timeout=timedelta(seconds=seconds),
            idle_timeout=timedelta(seconds=seconds),
            retry_policy=_retries(_UNSENT, quiet_seconds=seconds),
            rate_limits=_rate_limits("api"),
        )
        for seconds in (_STREAM_SECONDS, 60)
    )
    return [
        Route(
            name="media",
            match=RouteMatch(safe_regex=RegexMatcher(regex=MEDIA)),
            route=media,
            typed_per_filter_config={
                **_asked(edge, "media"),
                BUFFER: Any.pack(BufferPerRoute(disabled=True)),
            },
        ),
        Route(
            name="watch",
            match=RouteMatch(safe_regex=RegexMatcher(regex=WATCHES)),
            route=watch,
            typed_per_filter_config={**_asked(edge, "api"), **_body(edge.api_bytes)},
        ),
        Route(
            name="api",
            match=RouteMatch(prefix="/v1/"),
            route=api,
            typed_per_filter_config={**_asked(edge, "api"), **_body(edge.api_bytes)},
        ),
    ]


def _internal() -> list[Route]:
    """Refuse what services call of each other: no caller from outside may, whatever it shows."""
    text = "internal methods are not served at the edge"
    methods = [name for name, rule in access.TABLE.items() if rule.role is None and not rule.operators]
    return [_direct("internal", RouteMatch(path=name), 403, "PERMISSION_DENIED", text) for name in methods]


def _unshown() -> Route:
    """Refuse to show the services' methods to strangers."""
    shown = HeaderMatcher(name="authorization", present_match=True, invert_match=True)
    match = RouteMatch(prefix=f"/{_REFLECTION}", headers=[shown])
    return _direct("unshown", match, 401, "UNAUTHENTICATED", "reflection needs credentials at the edge")


def _grpc(edge: Edge) -> list[Route]:
    prefixes = [(f"/{package}.", cluster) for package, cluster in _PACKAGES.items()]
    prefixes += [(f"/{name}", "gateway") for name in _COMMON]
    return [
        Route(
            name="grpc",
            match=RouteMatch(prefix=prefix),  # gRPC-Web has another content type
            route=RouteAction(
                cluster=cluster,
                timeout=timedelta(0),
                # The caller's own deadline holds, up to that of the longest stream.
                max_stream_duration=RouteActionMaxStreamDuration(
                    max_stream_duration=timedelta(seconds=_STREAM_SECONDS),
                    grpc_timeout_header_max=timedelta(seconds=_STREAM_SECONDS),
                ),
                idle_timeout=timedelta(seconds=_STREAM_SECONDS),
                retry_policy=_retries(_UNSENT),
                rate_limits=_rate_limits("grpc"),
            ),
            typed_per_filter_config={**_asked(edge, "grpc"), BUFFER: Any.pack(BufferPerRoute(disabled=True))},
        )
        for prefix, cluster in prefixes
    ]


def _nowhere() -> Route:
    return _direct("nowhere", RouteMatch(prefix="/"), 404, "NOT_FOUND", "the path does not exist")


def _direct(name: str, match: RouteMatch, status: int, code: str, text: str) -> Route:
    body = error_body(status, code, text)
    return Route(
        name=name,
        match=match,
        direct_response=DirectResponseAction(status=status, body=DataSource(inline_string=body)),
        typed_per_filter_config=_unasked(),
    )


def error_body(status: int, code: str, text: str) -> str:
    """Return an error of Envoy's own, as the gateway's errors are."""
    return json.dumps({"error": {"code": status, "message": text, "status": code, "details": []}})


def _retries(
    on: str, *, statuses: Sequence[int] = (), seconds: float = 0, quiet_seconds: float = _STREAM_SECONDS
) -> RetryPolicy:
    """Return a policy of three retries, of `seconds` a try, or with pauses of `quiet_seconds` at most."""
    elsewhere = RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts", typed_config=Any.pack(PreviousHostsPredicate())
    )
    policy = RetryPolicy(
        retry_on=on,
        num_retries=3,
        retriable_status_codes=list(statuses),
        retry_host_predicate=[elsewhere],
        # A replica that just died has the fewest requests, so that the balancer offers it again and again.
        host_selection_retry_max_attempts=20,
    )
    if seconds:
        policy.per_try_timeout = timedelta(seconds=seconds)
    else:
        policy.per_try_idle_timeout = timedelta(seconds=quiet_seconds)
    return policy


def _rate_limits(route: str) -> list[RateLimit]:
    """Return the three descriptors of a request, the narrowest first: one whose facts are not known is not asked about.

    The first that is over refuses, and nothing is taken from those after it.
    """
    return [
        _descriptor(route, _fact("limited"), RateLimitAction(remote_address=RateLimitActionRemoteAddress())),
        _descriptor(route, _fact("tenant"), _fact("user")),
        _descriptor(route, _fact("tenant"), _fact("plan")),
    ]


def _descriptor(route: str, *actions: RateLimitAction) -> RateLimit:
    named = RateLimitActionGenericKey(descriptor_key="route", descriptor_value=route)
    return RateLimit(actions=[RateLimitAction(generic_key=named), *actions])


def _fact(name: str) -> RateLimitAction:
    """Take what ext_authz found out; without it there is no descriptor."""
    place = MetadataKey(key=AUTHZ, path=[MetadataKeyPathSegment(key=name)])
    return RateLimitAction(
        metadata=RateLimitActionMetaData(
            descriptor_key=name, metadata_key=place, source=RateLimitActionMetaDataSource.DYNAMIC
        )
    )


def _asked(edge: Edge, route: str) -> dict[str, Any]:
    settings = CheckSettings(context_extensions={"route": route})
    return {AUTHZ: Any.pack(ExtAuthzPerRoute(check_settings=settings)), FLOOD: Any.pack(_flood(edge))}


def _flood(edge: Edge) -> LocalRateLimit:
    """Return how much Envoy asks about at all: more would only make the tenant service too late to refuse anything."""
    whole = FractionalPercent(numerator=100, denominator=FractionalPercentDenominatorType.HUNDRED)
    address = RateLimitDescriptorEntry(key="remote_address")  # without a value: each by itself
    now = HeaderValue(key="retry-after", value="1")
    return LocalRateLimit(
        stat_prefix=NAME,
        status=HttpStatus(code=StatusCode.TooManyRequests),
        token_bucket=_bucket(edge.asked_per_second),
        descriptors=[
            LocalRateLimitDescriptor(entries=[address], token_bucket=_bucket(edge.asked_per_second // 4))
        ],
        rate_limits=[RateLimit(actions=[RateLimitAction(remote_address=RateLimitActionRemoteAddress())])],
        max_dynamic_descriptors=_MOST_ADDRESSES,
        filter_enabled=RuntimeFractionalPercent(default_value=whole),
        filter_enforced=RuntimeFractionalPercent(default_value=whole),
        response_headers_to_add=[HeaderValueOption(header=now)],
        rate_limited_as_resource_exhausted=True,
    )


def _bucket(per_second: int) -> TokenBucket:
    # No more at once either: the tenant service answers so many in time.
    return TokenBucket(max_tokens=per_second, tokens_per_fill=per_second, fill_interval=timedelta(seconds=1))


def _unasked() -> dict[str, Any]:
    return {AUTHZ: Any.pack(ExtAuthzPerRoute(disabled=True))}


def _body(most: int) -> dict[str, Any]:
    return {BUFFER: Any.pack(BufferPerRoute(buffer=Buffer(max_request_bytes=most)))}
