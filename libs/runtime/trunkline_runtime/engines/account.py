"""The account of a service with its tenants: what engines' answers cost is kept, and told to the tenant service."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import grpc
from cachetools import LRUCache
from trunkline.common.v1 import usage_pb2
from trunkline.tenant.v1 import cost_pb2, cost_service_pb2, cost_service_pb2_grpc

from trunkline_runtime.engines.base import Engine, EngineError, EngineUsage
from trunkline_runtime.errors import InvalidArgument, NotFound, from_rpc_error
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe import logs, metrics
from trunkline_runtime.rpc.channels import Channels, acting_for, unconfined

log = logs.get_logger(__name__)

BUDGET_SPENT = "BUDGET_SPENT"
"""Reason of the refusal to ask an engine that costs something for a tenant whose budget is spent."""
TELL_SECONDS = 5.0
"""The interval at which charges are told."""
_SECONDS = 5.0
_ASK_SECONDS = 1.0
_KEPT_SECONDS = 15.0
_TENANTS = 10_000

_lost = metrics.counter("trunkline_charges_lost_total", "Charges that were not kept or not taken", ["why"])
_unasked = metrics.counter(
    "trunkline_budget_unasked_total",
    "Answers for which an engine that costs something wasn't asked, since the budget is spent",
    ["engine"],
)
_unknown = metrics.counter(
    "trunkline_budget_unknown_total", "Looks at a budget that the tenant service didn't answer"
)

Keep = Callable[[str, str, bytes], Awaitable[None]]
"""Keeps a tenant's message of an id until it is delivered."""


def is_free(engine: Engine) -> bool:
    """Say whether an engine costs nothing: one that does says so by `is_free = False`."""
    return bool(getattr(engine, "is_free", True))


def _refused(engine: Engine) -> EngineError:
    _unasked.labels(engine.name).inc()
    return EngineError(BUDGET_SPENT, "the tenant's budget is spent", transient=False, of_content=False)


class Account:
    """Charges tenants for answers, and says whose budget is spent. It keeps charges once `keep` is set."""

    keep: Keep

    def __init__(self, budgets: Budgets, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._budgets = budgets
        self._now = now

    async def check(self, tenant: str, engine: Engine) -> None:
        """Raise an EngineError of BUDGET_SPENT when a tenant's budget is spent, and the engine costs something.

        It is a refusal for good: an answer that another engine gives instead stays when the budget is raised.
        """
        if not is_free(engine) and await self._budgets.is_spent(tenant):
            raise _refused(engine)

    async def refusals(self, tenant: str, engines: Mapping[str, Engine]) -> dict[str, EngineError]:
        """Return those errors by the engines' names in `engines`."""
        costly = {name: engine for name, engine in engines.items() if not is_free(engine)}
        if not costly or not await self._budgets.is_spent(tenant):
            return {}
        return {name: _refused(engine) for name, engine in costly.items()}

    async def charge(self, tenant: str, engine: str, usage: EngineUsage) -> None:
        """Keep what one answer took and cost, if it did; never fails, since the answer is there and paid for."""
        if usage == EngineUsage():
            return
        charge = cost_pb2.Charge(
            id=secrets.token_hex(16),
            engine=engine[:64],
            usage=usage_message(usage),
            unpriced=usage.unpriced,
        )
        charge.create_time.FromDatetime(self._now())
        try:
            await self.keep(tenant, charge.id, charge.SerializeToString())
        except Exception as error:
            _lost.labels("not_kept").inc()
            log.error(
                "charge_not_kept",
                tenant=tenant,
                engine=engine,
                cost_micros=usage.cost_micros,
                error=type(error).__name__,
            )


class Budgets:
    """Whose budget is spent, as the tenant service says: an answer is good for seconds.

    Where it does not answer, its last word on this month stands; without one, the budget is not spent. An outage of
    one service must not stop what tenants pay for, and is short beside a month.
    """

    def __init__(
        self,
        channels: Channels,
        tenant_address: str,
        *,
        now: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stub = cost_service_pb2_grpc.CostServiceStub(channels.get(tenant_address))
        self._now = now
        self._today = today
        self._known: LRUCache[str, tuple[float, bool, datetime]] = LRUCache(_TENANTS)
        self._flights: Flights[str, bool] = Flights()

    async def is_spent(self, tenant: str) -> bool:
        """Say whether a tenant's budget is spent, as known some seconds ago."""
        known = self._known.get(tenant)
        if known is not None and self._now() - known[0] < _KEPT_SECONDS and self._today() < known[2]:
            return known[1]
        return await self._flights.run(tenant, lambda: self._asked(tenant))

    async def _asked(self, tenant: str) -> bool:
        request = cost_service_pb2.GetCostsRequest(name=f"tenants/{tenant}/costs")
        try:
            with acting_for(tenant):
                costs = await self._stub.GetCosts(request, timeout=_ASK_SECONDS)
        except grpc.RpcError as error:
            _unknown.inc()
            known = self._known.get(tenant)
            stands = known is not None and known[1] and self._today() < known[2]
            until = known[2] if known is not None else datetime.max.replace(tzinfo=UTC)
            log.warning("budget_not_known", tenant=tenant, code=str(error.code()), stands=stands)
            self._known[tenant] = (self._now(), stands, until)
            return stands
        stops = costs.budget.action != cost_pb2.BUDGET_ACTION_REPORT
        spent = stops and costs.budget_state == cost_pb2.BUDGET_STATE_SPENT
        self._known[tenant] = (self._now(), spent, costs.reset_time.ToDatetime(UTC))
        return spent


class Teller:
    """Tells the tenant service of charges."""

    def __init__(self, channels: Channels, tenant_address: str) -> None:
        self._stub = cost_service_pb2_grpc.CostServiceStub(channels.get(tenant_address))

    async def tell(self, tenant: str, messages: Sequence[bytes]) -> None:
        """Tell of a tenant's charges; each may be told again. Raises TrunklineError."""
        request = cost_service_pb2.RecordChargesRequest(
            parent=f"tenants/{tenant}", charges=[cost_pb2.Charge.FromString(message) for message in messages]
        )
        try:
            with unconfined():
                await self._stub.RecordCharges(request, timeout=_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def failed(self, tenant: str, error: Exception) -> bool:
        """Say whether charges that could not be told are kept: what is refused for good is not told again."""
        if not isinstance(error, NotFound | InvalidArgument):
            log.info("charges_not_told", tenant=tenant, error=type(error).__name__)
            return True
        _lost.labels("refused").inc()
        log.warning("charges_refused", tenant=tenant, error=type(error).__name__)
        return False


def usage_message(usage: EngineUsage) -> usage_pb2.EngineUsage:
    """Return an answer's usage as the message that resources show; audio to the microsecond."""
    message = usage_pb2.EngineUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_micros=usage.cost_micros,
        cached=usage.cached,
        reused_similarity=usage.reused_similarity,
    )
    if usage.audio_seconds:
        message.audio_duration.FromMicroseconds(round(usage.audio_seconds * 1_000_000))
    return message
