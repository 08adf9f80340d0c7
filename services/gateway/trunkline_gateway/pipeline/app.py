"""The wiring of the role `work`: channels, breakers, stages and the worker, from one config."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from trunkline.gateway.v1 import job_service_pb2_grpc
from trunkline_runtime.breakers import Breakers
from trunkline_runtime.config import env_name
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import exporting, logs
from trunkline_runtime.observe.endpoint import MetricsEndpoint
from trunkline_runtime.process import garbage, supervisor
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.signals import stop_requested
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.health import Health, serving_health
from trunkline_work import Terms, Worker

from trunkline_gateway.pipeline.clients import AI, AUDIO, TENANT, Clients
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_gateway.pipeline.job_source import Jobs, ServedJobs
from trunkline_gateway.pipeline.kind import EventWork, WorkerMetrics
from trunkline_gateway.pipeline.lookups import Lookups
from trunkline_gateway.pipeline.sources import Sources
from trunkline_gateway.pipeline.stages import Stages

log = logs.get_logger(__name__)

# The worker is the gateway in its other role: it shows the gateway's identity.
IDENTITY = "gateway"


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts, wired. Nothing is claimed before `worker.run`, and nothing is connected before the first claim."""

    config: WorkerConfig
    name: str
    channels: Channels
    clients: Clients
    stages: Stages
    worker: Worker
    health: Health


@asynccontextmanager
async def build(
    config: WorkerConfig,
    *,
    name: str = "",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    pace: Pace = MACHINE,
    jobs: Jobs | None = None,
    make_clients: Callable[[Breakers], Clients] | None = None,
) -> AsyncIterator[WorkerParts]:
    """Wire one worker; its channels are closed at the end of the block. Raises ConfigError.

    `name` is unique among the workers that run. `jobs` and `make_clients` stand in for the gateway and for the other
    services.
    """
    channels = Channels.of(config, TokenSigner(config.keys, IDENTITY))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(channels.close)
        breakers = Breakers(
            config.breaker_failures,
            config.breaker_seconds,
            (TENANT, AUDIO, AI),
            slow=(AUDIO,),
            now=lambda: now().timestamp(),
        )
        clients = make_clients(breakers) if make_clients else _clients(config, channels, breakers)
        sources = Sources(clients.resolve, config.source_seconds, now=pace.clock)
        lookups = Lookups(tuple(origin for origin in config.lookup_origins.split(",") if origin))
        stages = Stages(
            clients,
            sources,
            config.degraded_retry_seconds,
            lookups.ask,
            recording_wait_seconds=config.recording_wait_seconds,
        )
        jobs = jobs or job_service_pb2_grpc.JobServiceStub(channels.get(config.gateway_address))
        name = name or _unique_name()
        health = Health()
        health.note("certificate", channels.problem)
        worker = Worker(
            ServedJobs(jobs, name, config.lease_seconds),
            [EventWork(stages.process, stages.told_dead, config, now).kind()],
            _terms(config),
            WorkerMetrics(config.gateway_address, health.depend("gateway")),
        )
        yield WorkerParts(config, name, channels, clients, stages, worker, health)


async def serve(config: WorkerConfig) -> None:
    """Work until SIGTERM or SIGINT. Raises ConfigError.

    It needs nothing to be up: it waits for the gateway, and jobs wait for the other services.
    """
    async with AsyncExitStack() as stack:
        traces = exporting.configure(
            "worker", config.otlp_endpoint, config.otlp_ratio, config.otlp_traces_per_second
        )
        stack.callback(traces)
        stop: asyncio.Event = stack.enter_context(stop_requested())
        parts = await stack.enter_async_context(build(config))
        setting = env_name("worker", "metrics_address")
        metrics = MetricsEndpoint(config.metrics_address, "worker", setting, parts.health.told)
        stack.callback(metrics.close)
        setting = env_name("worker", "grpc_address")
        await stack.enter_async_context(serving_health(parts.health, config.grpc_address, setting))
        garbage.settle()
        supervisor.started()
        log.info(
            "started",
            worker=parts.name,
            gateway=config.gateway_address,
            concurrency=config.worker_concurrency,
        )
        await parts.worker.run(stop)
        log.info("stopped", worker=parts.name)


def _terms(config: WorkerConfig) -> Terms:
    return Terms(
        slots=config.worker_concurrency,
        lease_seconds=config.lease_seconds,
        report_seconds=config.lease_seconds,
        claim_wait_seconds=config.claim_wait_seconds,
        drain_seconds=config.drain_seconds,
    )


def _clients(config: WorkerConfig, channels: Channels, breakers: Breakers) -> Clients:
    return Clients.over(
        breakers,
        tenant=channels.get(config.tenant_address),
        audio=channels.get(config.audio_address),
        ai=channels.get(config.ai_address),
    )


def _unique_name() -> str:
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{os.urandom(4).hex()}"
