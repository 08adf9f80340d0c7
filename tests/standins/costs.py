"""A stand-in for the tenant service that answers of costs alone."""

import contextlib
from datetime import UTC, datetime, timedelta

import grpc
from google.protobuf.empty_pb2 import Empty
from trunkline.tenant.v1 import cost_pb2, cost_service_pb2_grpc


class Costs(cost_service_pb2_grpc.CostServiceServicer):
    """Keeps charges, says how a budget stands, and can be out of order."""

    def __init__(self):
        self.charges, self.told, self.asked = {}, 0, 0
        self.state, self.action = cost_pb2.BUDGET_STATE_WITHIN, cost_pb2.BUDGET_ACTION_STOP
        self.out_of_order = None

    async def GetCosts(self, request, context):
        self.asked += 1
        await self._maybe_fail(context)
        costs = cost_pb2.Costs(budget={"action": self.action}, budget_state=self.state)
        costs.reset_time.FromDatetime(datetime.now(UTC) + timedelta(days=20))
        return costs

    async def RecordCharges(self, request, context):
        self.told += 1
        await self._maybe_fail(context)
        self.charges |= {(request.parent, charge.id): charge for charge in request.charges}
        return Empty()

    async def _maybe_fail(self, context):
        if self.out_of_order is not None:
            await context.abort(self.out_of_order, "out of order")

    @property
    def costs(self):
        return sorted(charge.usage.cost_micros for charge in self.charges.values())


@contextlib.asynccontextmanager
async def costs_served():
    server, costs = grpc.aio.server(), Costs()
    cost_service_pb2_grpc.add_CostServiceServicer_to_server(costs, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield costs, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
