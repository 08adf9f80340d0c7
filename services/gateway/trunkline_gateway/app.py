"""The wiring of the role `serve`: the edge, the admission loop and the owner of the gateway's tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from trunkline.gateway.v1 import (
    conversation_service_pb2_grpc,
    event_service_pb2_grpc,
    job_service_pb2_grpc,
    usage_service_pb2_grpc,
)
from trunkline_jobs import Queue
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.process.periodic import every
from trunkline_runtime.process.signals import stop_requested
from trunkline_runtime.rpc.authenticator import CachingAuthenticator, TenantServiceAuthenticator
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.rpc.waiting import opened
from trunkline_store import MAY_PASS, Appender, Database

from trunkline_gateway import schema
from trunkline_gateway.api.conversation import ConversationService
from trunkline_gateway.api.readiness import Readiness
from trunkline_gateway.api.transcode.app import build_transcoder
from trunkline_gateway.api.usage import UsageService
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.edge.front import Front, HttpServer
from trunkline_gateway.events.acceptance import Acceptance
from trunkline_gateway.events.progress import telling
from trunkline_gateway.events.rejections import Rejections
from trunkline_gateway.events.replays import Replays
from trunkline_gateway.events.retention import sweep
from trunkline_gateway.events.service import EventService
from trunkline_gateway.events.tenant_deletion import Deletions
from trunkline_gateway.hooks.receiver import Receiver
from trunkline_gateway.hooks.source_cache import SourceCache
from trunkline_gateway.hooks.source_feed import TenantFeed
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.hooks.unverified import Unverified
from trunkline_gateway.intake.admission import Admission
from trunkline_gateway.intake.inbox import SpoolingInbox
from trunkline_gateway.intake.kept import REFRESH_SECONDS, Kept
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.intake.standby import standing_by
from trunkline_gateway.intake.stored import Stored
from trunkline_gateway.jobs.burials import TELL_SECONDS, Burials
from trunkline_gateway.jobs.service import JobService
from trunkline_gateway.jobs.shares import Shares

# The least that calls in flight get after the last HTTP request.
_GRPC_DRAIN_SECONDS = 1.0
_PACKAGE = "trunkline.gateway.v1."


async def serve(config: GatewayConfig) -> None:
    """Open, serve until SIGTERM or SIGINT, drain, close: what was opened is closed in reverse."""
    async with AsyncExitStack() as stack:
        signer = TokenSigner(config.suite_key, "gateway")
        channels = Channels(signer)
        stack.push_async_callback(channels.close)
        authenticator = CachingAuthenticator(TenantServiceAuthenticator(channels, config.tenant_address))

        sources = SourceMap(
            TenantFeed(channels, config.tenant_address), SourceCache(config.source_cache, config.suite_key)
        )
        db = await opened(
            lambda: _open(config),
            MAY_PASS,
            config,
            service="gateway",
            signer=signer,
            meanwhile=lambda why: standing_by(config, sources, why),
        )
        stack.push_async_callback(db.close)
        queue = Queue(db, schema.jobs, shards=config.queue_shards)
        jobs = JobService(db, queue, _shares(config), Burials(telling(channels, config.tenant_address)))

        rejections = Rejections(
            db,
            config.keep_rejections,
            events_days=config.events_days,
            keep_bytes=config.keep_rejections_bytes,
            quotas_of=sources.quotas_of,
        )
        kept = Kept(db)
        unverified = Unverified(config.max_unverified, config.max_unverified_bytes)
        appender = db.appender(schema.receipts, max_rows=config.max_queued)
        admission = Admission(
            db,
            queue,
            sources,
            keep_rejections=config.keep_rejections,
            keep_rejections_bytes=config.keep_rejections_bytes,
            events_days=config.events_days,
            base_url=config.public_url,
            jobs_ready=jobs.jobs_ready,
            # Where there is one writer, webhooks go first.
            busy=lambda: appender.crowded,
            unverified=unverified,
            is_over=kept.is_over,
        )
        inbox = await _open_inbox(stack, config, db, appender, admission.soon)
        receiver = Receiver.of(config, sources, inbox, rejections, unverified, admission.soon, kept)

        server = Server(config, service="gateway", signer=signer, authenticator=authenticator)
        replays = Replays(db, queue, jobs.jobs_ready)
        acceptance = Acceptance(db, sources, admission.soon, config.public_url)
        event_service = EventService(
            db,
            queue,
            replays,
            acceptance,
            jobs.jobs_ready,
            list_staleness=config.list_staleness,
            quotas_of=sources.quotas_of,
            tell_call=telling(channels, config.tenant_address),
        )
        server.add(
            event_service_pb2_grpc.add_EventServiceServicer_to_server,
            event_service,
            _PACKAGE + "EventService",
        )
        server.add(job_service_pb2_grpc.add_JobServiceServicer_to_server, jobs, _PACKAGE + "JobService")
        server.add(
            conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server,
            ConversationService(
                channels,
                tenant_address=config.tenant_address,
                audio_address=config.audio_address,
                ai_address=config.ai_address,
            ),
            _PACKAGE + "ConversationService",
        )
        server.add(
            usage_service_pb2_grpc.add_UsageServiceServicer_to_server,
            UsageService(
                db,
                kept,
                sources,
                channels,
                tenant_address=config.tenant_address,
                audio_address=config.audio_address,
            ),
            _PACKAGE + "UsageService",
        )

        server.health.depend("store", lambda: _answers(db), at_drain=db.hurry)
        api = build_transcoder(channels, signer, authenticator, config, own_address=lambda: server.address)
        readiness = Readiness(server.health, inbox, lambda: inbox.refusing)
        server.ready = readiness
        front = Front(receiver, api, readiness)
        http = HttpServer(front, config.http_address, config.drain_seconds, config.edge_limits())
        await server.start()
        stack.push_async_callback(server.stop)

        with stop_requested() as requested:
            loops: list[Coroutine[Any, Any, None]] = [
                sources.follow(), sources.persist(), admission.run(), rejections.run(), replays.run(),
                inbox.watch(), inbox.recover(),
                every(config.sweep_seconds, "retention", lambda: sweep(db)),
                every(REFRESH_SECONDS, "kept_bytes", kept.refresh),
                every(TELL_SECONDS, "burials", jobs.burials.tell),
                every(config.deletions_seconds, "deletions", _deletions(db, channels, config).step),
            ]  # fmt: skip
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(loop) for loop in loops]
                serving = group.create_task(http.run_until_stopped())
                await asyncio.wait(
                    [group.create_task(requested.wait(), name="signal"), *running, serving],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                # Refuse new work first, then finish what is in flight, then stop what it stood on.
                # What HTTP leaves of the time is gRPC's, which /v1 stands on.
                until = time.monotonic() + config.drain_seconds
                readiness.stopping = True
                await server.health.drain()
                jobs.stop()
                await http.stop(config.drain_notice_seconds, config.drain_seconds - _GRPC_DRAIN_SECONDS)
                await serving
                await server.stop(max(_GRPC_DRAIN_SECONDS, until - time.monotonic()))
                requested.set()
                for task in running:
                    task.cancel()
        await rejections.flush()


async def _open(config: GatewayConfig) -> Database:
    return await Database.open(
        config.store_url,
        schema.metadata,
        migrations="trunkline_gateway.migrations",
        readers=config.readers,
    )


async def _answers(db: Database) -> bool:
    await db.check()
    return True


async def _open_inbox(
    stack: AsyncExitStack,
    config: GatewayConfig,
    db: Database,
    appender: Appender,
    admit_soon: Callable[[], None],
) -> SpoolingInbox:
    """Open the spool beside the store's append path."""
    spool = Spool(config.spool_folder(), config.spool_max_bytes)
    stack.push_async_callback(spool.close)
    inbox = SpoolingInbox(
        appender, Stored(db), spool, confirm_seconds=config.confirm_seconds, admit_soon=admit_soon
    )
    await inbox.open()
    return inbox


def _deletions(db: Database, channels: Channels, config: GatewayConfig) -> Deletions:
    return Deletions(
        db,
        channels,
        tenant_address=config.tenant_address,
        audio_address=config.audio_address,
        ai_address=config.ai_address,
    )


def _shares(config: GatewayConfig) -> Shares:
    return Shares(
        tenant_in_flight=config.tenant_in_flight,
        contended_share=config.contended_share,
        reserved_share=config.reserved_share,
        quiet_in_flight=config.quiet_in_flight,
    )
