"""trunkline.tenant.v1.RateService: the limits of Envoy's ratelimit service, taken in advance by gateways."""

from __future__ import annotations

from datetime import timedelta

from trunkline.tenant.v1 import rate_service_pb2, rate_service_pb2_grpc

from trunkline_tenant.edge.rates import ADDRESS, TENANT, USER, EdgeRates

_KINDS = {
    rate_service_pb2.RATE_KIND_ADDRESS: ADDRESS,
    rate_service_pb2.RATE_KIND_USER: USER,
    rate_service_pb2.RATE_KIND_TENANT: TENANT,
}


class RateService(rate_service_pb2_grpc.RateServiceServicer):
    """Answers TakeRequests."""

    def __init__(self, rates: EdgeRates) -> None:
        self._rates = rates

    async def TakeRequests(
        self, request: rate_service_pb2.TakeRequestsRequest, context: object
    ) -> rate_service_pb2.TakeRequestsResponse:
        """Take a hundredth of a limit, or what is left of it."""
        count = await self._rates.take(_KINDS[request.kind], request.subject, request.route, lease=True)
        if count is None:
            return rate_service_pb2.TakeRequestsResponse()
        answer = rate_service_pb2.TakeRequestsResponse(
            granted=count.granted, limit=count.limit, remaining=count.remaining
        )
        answer.reset.FromTimedelta(timedelta(seconds=count.reset_seconds))
        return answer
