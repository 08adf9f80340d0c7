"""The servers of the role `serve`: gRPC and HTTP over the gateway's parts, and the order in which all of it stops."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from google.longrunning import operations_pb2_grpc
from trunkline.gateway.v1 import (
    conversation_service_pb2_grpc,
    event_service_pb2_grpc,
    job_service_pb2_grpc,
    usage_service_pb2_grpc,
)
from trunkline_runtime.config import ConfigError, env_name
from trunkline_runtime.identity import access
from trunkline_runtime.identity.links import LinkSigner
from trunkline_runtime.process.signals import stop_requested
from trunkline_runtime.rpc.authenticator import CachingAuthenticator, TenantServiceAuthenticator
from trunkline_runtime.rpc.operations import SERVICE as OPERATIONS
from trunkline_runtime.rpc.server import Server
from trunkline_store import NEVER_PASS

from trunkline_gateway.api.allowances import Allowances, asking
from trunkline_gateway.api.app import build_transcoder
from trunkline_gateway.api.conversation import ConversationService
from trunkline_gateway.api.credentials import Credentials
from trunkline_gateway.api.media.app import media_api
from trunkline_gateway.api.operations import OperationsService
from trunkline_gateway.api.readiness import Readiness
from trunkline_gateway.api.usage import UsageService
from trunkline_gateway.app import GatewayParts, build
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.edge.front import Front, HttpServer
from trunkline_gateway.hooks.limits import Buckets

# The least that calls in flight get after the last HTTP request.
_GRPC_DRAIN_SECONDS = 1.0
_PACKAGE = "trunkline.gateway.v1."


async def serve(config: GatewayConfig) -> None:
    """Open, serve until SIGTERM or SIGINT, drain, close. Raises ConfigError, StoreError, StoppedWaiting."""
    async with build(config) as gateway:
        try:
            await gateway.inbox.open()
        except NEVER_PASS as error:
            raise ConfigError(f"{env_name('gateway', 'spool_path')}: {error}") from error
        await _serve(gateway)
        await gateway.rejections.flush()


async def _serve(gateway: GatewayParts) -> None:
    config, clock = gateway.config, gateway.pace.clock
    authenticator = CachingAuthenticator(TenantServiceAuthenticator(gateway.channels, config.tenant_address))
    server = Server(config, service="gateway", signer=gateway.signer, authenticator=authenticator)
    _add_services(server, gateway)
    allowances = None
    if config.api_limits == "gateway":
        allowances = Allowances(asking(gateway.channels, config.tenant_address), clock=clock)
    rates = Buckets(config.api_per_second, config.api_burst, clock)
    api = build_transcoder(
        gateway.channels,
        gateway.signer,
        authenticator,
        config,
        own_address=lambda: server.address,
        rates=rates,
        allowances=allowances,
    )
    media = media_api(
        api,
        gateway.channels.get(config.audio_address, bulk=True),
        authenticate=Credentials(authenticator, gateway.signer),
        signer=gateway.signer,
        links=LinkSigner(config.keys, "audio", reader="gateway"),
        rules=access.TABLE,
        public_url=config.public_url,
        rates=rates,
        allowances=allowances,
    )
    readiness = Readiness(server.health, gateway.inbox, lambda: gateway.inbox.refusing)
    server.ready = readiness
    front = Front(gateway.receiver, media, readiness)
    http = HttpServer(front, config.http_address, config.drain_seconds, config.edge_limits())
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop)
        requested = stack.enter_context(stop_requested())
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(loop) for loop in gateway.loops()]
            serving = group.create_task(http.run_until_stopped())
            await asyncio.wait(
                [group.create_task(requested.wait(), name="signal"), *running, serving],
                return_when=asyncio.FIRST_COMPLETED,
            )
            # Refuse new work first, then finish what is in flight, then stop what it stood on.
            # What HTTP leaves of the time is gRPC's, which /v1 stands on.
            until = clock() + config.drain_seconds
            readiness.stopping = True
            await server.health.drain()
            gateway.jobs.stop()
            api.stop()
            media.stop()
            await http.stop(config.drain_notice_seconds, config.drain_seconds - _GRPC_DRAIN_SECONDS)
            await serving
            await server.stop(max(_GRPC_DRAIN_SECONDS, until - clock()))
            requested.set()
            for task in running:
                task.cancel()


def _add_services(server: Server, gateway: GatewayParts) -> None:
    config, channels = gateway.config, gateway.channels
    server.add(
        event_service_pb2_grpc.add_EventServiceServicer_to_server, gateway.events, _PACKAGE + "EventService"
    )
    server.add(job_service_pb2_grpc.add_JobServiceServicer_to_server, gateway.jobs, _PACKAGE + "JobService")
    server.add(
        conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server,
        ConversationService(
            channels,
            gateway.call_deletions,
            tenant_address=config.tenant_address,
            audio_address=config.audio_address,
            ai_address=config.ai_address,
        ),
        _PACKAGE + "ConversationService",
    )
    server.add(
        usage_service_pb2_grpc.add_UsageServiceServicer_to_server,
        UsageService(
            gateway.db,
            gateway.kept,
            gateway.sources,
            channels,
            tenant_address=config.tenant_address,
            audio_address=config.audio_address,
        ),
        _PACKAGE + "UsageService",
    )
    owners = {"audio": config.audio_address, "ai": config.ai_address, "tenant": config.tenant_address}
    server.add(
        operations_pb2_grpc.add_OperationsServicer_to_server, OperationsService(channels, owners), OPERATIONS
    )

    async def store_answers() -> bool:
        await gateway.db.check()
        return True

    server.health.depend("store", store_answers, at_drain=gateway.db.hurry)
