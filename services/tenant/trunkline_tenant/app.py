"""Wires the tenant service: store, secrets, services, server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from trunkline.tenant.v1 import (
    api_key_service_pb2_grpc,
    call_service_pb2_grpc,
    cost_service_pb2_grpc,
    lead_service_pb2_grpc,
    rate_service_pb2_grpc,
    source_service_pb2_grpc,
    tenant_service_pb2_grpc,
)
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.periodic import every
from trunkline_runtime.rpc.authenticator import CachingAuthenticator
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.rpc.waiting import opened
from trunkline_store import MAY_PASS, NEVER_PASS, Clock, Database

from trunkline_tenant.calls.service import CallService
from trunkline_tenant.config import SERVICE, TenantConfig, lacking_key
from trunkline_tenant.costs.service import CostService
from trunkline_tenant.costs.upkeep import SECONDS as UPKEEP_SECONDS
from trunkline_tenant.costs.upkeep import Upkeep
from trunkline_tenant.crypto import UnreadableSecret
from trunkline_tenant.edge import authz, ratelimit
from trunkline_tenant.edge.authz import Authorization
from trunkline_tenant.edge.ratelimit import RateLimitService
from trunkline_tenant.edge.rates import EdgeRates
from trunkline_tenant.edge.service import RateService
from trunkline_tenant.keys.service import ApiKeyService, LocalAuthenticator
from trunkline_tenant.leads.service import LeadService
from trunkline_tenant.schema import metadata
from trunkline_tenant.sources import secret_rows
from trunkline_tenant.sources.service import SourceService
from trunkline_tenant.sources.watch import SNAPSHOT_PAGE, Bell, SourceWatch
from trunkline_tenant.tenants.service import TenantService

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TenantParts:
    """The parts, wired. Nothing listens before `running`."""

    config: TenantConfig
    db: Database
    server: Server
    bell: Bell
    rates: EdgeRates
    pace: Pace

    def running(self) -> AbstractAsyncContextManager[Server]:
        """Serve while the block lasts. Raises ConfigError."""
        keeping = every(UPKEEP_SECONDS, "costs", Upkeep(self.db).run, sleep=self.pace.sleep)
        loops = (_end_watches(self.server, self.bell), self.rates.warm(self.pace.sleep))
        return self.server.running(*loops, keeping)


@asynccontextmanager
async def build(
    config: TenantConfig,
    *,
    clock: Clock | None = None,
    pace: Pace = MACHINE,
    snapshot_page: int = SNAPSHOT_PAGE,
) -> AsyncIterator[TenantParts]:
    """Open the store and wire the parts; what was opened is closed in reverse at the end of the block.

    `snapshot_page` is how many sources a watcher is told at a time. Raises ConfigError, StoreError, StoppedWaiting.
    """
    async with AsyncExitStack() as stack:
        box = config.box()
        signer = TokenSigner(config.keys, SERVICE)
        db = await _open(config, clock, signer)
        stack.push_async_callback(db.close)
        try:
            resealed = await secret_rows.reseal(db, box)
        except UnreadableSecret as error:
            raise lacking_key(error) from error
        if resealed:
            log.info("secrets_resealed", count=resealed)
        authenticator = LocalAuthenticator(db, config.operator_token, config.edge_token)
        server = Server(
            config,
            service=SERVICE,
            signer=signer,
            authenticator=authenticator,
        )
        bell = Bell()
        watch = SourceWatch(
            db,
            box,
            bell,
            poll_seconds=config.watch_poll_seconds,
            heartbeat_seconds=config.watch_heartbeat_seconds,
            monotonic=pace.clock,
            page=snapshot_page,
        )
        _add_services(
            server, db, authenticator, bell, SourceService(db, box, bell, watch), config.list_staleness
        )
        rates = EdgeRates.of(db, config)
        stack.push_async_callback(rates.close)
        server.add(
            rate_service_pb2_grpc.add_RateServiceServicer_to_server,
            RateService(rates),
            "trunkline.tenant.v1.RateService",
        )
        if config.edge_token:
            _serve_envoy(server, rates, Authorization(CachingAuthenticator(authenticator), signer, rates))
        yield TenantParts(config, db, server, bell, rates, pace)


def _add_services(
    server: Server,
    db: Database,
    authenticator: LocalAuthenticator,
    bell: Bell,
    sources: SourceService,
    staleness: timedelta | None,
) -> None:
    async def store_answers() -> bool:
        await db.check()
        return True

    package = "trunkline.tenant.v1"
    server.add(
        tenant_service_pb2_grpc.add_TenantServiceServicer_to_server,
        TenantService(db, bell.ring),
        f"{package}.TenantService",
    )
    server.add(
        source_service_pb2_grpc.add_SourceServiceServicer_to_server, sources, f"{package}.SourceService"
    )
    server.add(
        api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server,
        ApiKeyService(db, authenticator),
        f"{package}.ApiKeyService",
    )
    server.add(
        call_service_pb2_grpc.add_CallServiceServicer_to_server,
        CallService(db, staleness),
        f"{package}.CallService",
    )
    server.add(
        lead_service_pb2_grpc.add_LeadServiceServicer_to_server,
        LeadService(db, staleness),
        f"{package}.LeadService",
    )
    server.add(
        cost_service_pb2_grpc.add_CostServiceServicer_to_server,
        CostService(db, staleness),
        f"{package}.CostService",
    )
    server.health.depend("store", store_answers, at_drain=db.hurry)


def _serve_envoy(server: Server, rates: EdgeRates, authorization: Authorization) -> None:
    server.add(authz.add_to_server, authorization, authz.SERVICE, described=False)
    server.add(ratelimit.add_to_server, RateLimitService(rates), ratelimit.SERVICE, described=False)


async def serve(config: TenantConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError, StoreError, StoppedWaiting."""
    async with build(config) as parts, parts.running() as server:
        await server.serve_until_stopped()


async def _end_watches(server: Server, bell: Bell) -> None:
    """End the streams that would otherwise use up the whole drain."""
    await server.stopping.wait()
    bell.close()


async def _open(config: TenantConfig, clock: Clock | None, signer: TokenSigner) -> Database:
    def attempt() -> Awaitable[Database]:
        return Database.open(
            config.store_url,
            metadata,
            migrations="trunkline_tenant.migrations",
            readers=config.readers,
            clock=clock,
        )

    return await opened(attempt, MAY_PASS, config, service=SERVICE, signer=signer, refused=NEVER_PASS)
