"""envoy.service.ratelimit.v3.RateLimitService: what Envoy asks of every request.

A descriptor has the entries `route`, and one of `remote_address`, `tenant` (with `plan`, when it is known), or
`tenant` and `user`. One that has none of them is not limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc.aio

from trunkline_tenant.edge.answers import Headers, add_unary, headers_of, over_limit, sentence_of, tightest_of
from trunkline_tenant.edge.rates import ADDRESS, TENANT, USER, EdgeRates, plan_of
from trunkline_tenant.edge.windows import Count

if TYPE_CHECKING:
    from envoy_data_plane.envoy.service.ratelimit.v3 import RateLimitRequest, RateLimitResponse

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
_MOST_DESCRIPTORS = 16
_MOST_HITS = 10_000
# A client asks the same question with each request. One is kept in about 3 kB.
_QUESTIONS_KEPT = 1_024


class RateLimitService:
    """Answers ShouldRateLimit."""

    def __init__(self, rates: EdgeRates) -> None:
        self._rates = rates

    async def ShouldRateLimit(self, request: RateLimitRequest, context: object) -> RateLimitResponse:
        """Count a request against the limits of its descriptors, one after another, up to the first that is over."""
        from envoy_data_plane.envoy.service.ratelimit import v3  # noqa: PLC0415 -- only whom Envoy asks pays 0.5 s

        counts: list[Count | None] = []
        over = False
        for one in request.descriptors[:_MOST_DESCRIPTORS]:
            # What is refused takes nothing of the limits after it.
            count = None if over else await self._take(one.entries, _hits(one, request))
            over = over or (count is not None and not count.granted)
            counts.append(count)
        code = v3.RateLimitResponseCode
        answer = v3.RateLimitResponse(
            overall_code=code.OVER_LIMIT if over else code.OK,
            statuses=[self._status(v3, count) for count in counts],
        )
        tightest = tightest_of(counts)
        if tightest is not None:
            answer.response_headers_to_add = _values(headers_of(tightest))
            if over:
                if _is_grpc(request):
                    answer.raw_body = sentence_of(tightest).encode()
                else:
                    answer.raw_body = over_limit(tightest)
                    answer.response_headers_to_add += _values([("content-type", "application/json")])
        return answer

    async def _take(self, entries: Sequence[Any], hits: int) -> Count | None:
        told = {entry.key: entry.value for entry in entries}
        route = told.get("route", "")
        if tenant := told.get("tenant"):
            if user := told.get("user"):
                return await self._rates.take(USER, f"{tenant}/{user}", route, wanted=hits)
            plan = plan_of(told.get("plan", ""))
            return await self._rates.take(TENANT, tenant, route, wanted=hits, plan=plan)
        if address := told.get("remote_address"):
            return await self._rates.take(ADDRESS, address, route, wanted=hits)
        return None

    def _status(self, v3: Any, count: Count | None) -> Any:
        code = v3.RateLimitResponseCode
        if count is None:
            return v3.RateLimitResponseDescriptorStatus(code=code.OK)
        return v3.RateLimitResponseDescriptorStatus(
            code=code.OK if count.granted else code.OVER_LIMIT,
            current_limit=v3.RateLimitResponseRateLimit(
                requests_per_unit=count.limit, unit=v3.RateLimitResponseRateLimitUnit.HOUR
            ),
            limit_remaining=count.remaining,
            duration_until_reset=timedelta(seconds=count.reset_seconds),
        )


def add_to_server(servicer: RateLimitService, server: grpc.aio.Server) -> None:
    """Serve it; the messages are Envoy's, of which only envoy-data-plane has the types."""
    from envoy_data_plane.envoy.service.ratelimit import v3  # noqa: PLC0415 -- as above

    add_unary(
        server,
        SERVICE,
        "ShouldRateLimit",
        servicer.ShouldRateLimit,
        v3.RateLimitRequest,
        kept=_QUESTIONS_KEPT,
    )


def _values(headers: Headers) -> list[Any]:
    from envoy_data_plane.envoy.config.core import v3  # noqa: PLC0415 -- as above

    return [v3.HeaderValue(key=name, value=value) for name, value in headers]


def _is_grpc(request: RateLimitRequest) -> bool:
    """Tell whether Envoy makes a gRPC status of the answer, whose message its body is."""
    return any(
        (entry.key, entry.value) == ("route", "grpc") for one in request.descriptors for entry in one.entries
    )


def _hits(descriptor: Any, request: Any) -> int:
    own = descriptor.hits_addend
    hits = own if own is not None else request.hits_addend
    return min(max(1, int(hits)), _MOST_HITS)
