"""Wiring of the role `work`: channels, breakers, stages and the worker, from one config."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack

from trunkline.gateway.v1 import job_service_pb2_grpc
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import logs, tracing
from trunkline_runtime.observe.metrics import MetricsEndpoint
from trunkline_runtime.process import garbage
from trunkline_runtime.process.signals import stop_requested
from trunkline_runtime.rpc.channels import Channels

from trunkline_gateway.pipeline.breakers import Breakers
from trunkline_gateway.pipeline.clients import AI, AUDIO, TENANT, Clients
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_gateway.pipeline.lookups import Lookups
from trunkline_gateway.pipeline.sources import Sources
from trunkline_gateway.pipeline.stages import Stages
from trunkline_gateway.pipeline.worker import Worker

log = logs.get_logger(__name__)

# The worker is the gateway in its other role: it shows the gateway's identity.
IDENTITY = "gateway"


async def run_worker(config: WorkerConfig, *, stop: asyncio.Event | None = None, name: str = "") -> None:
    """Work until `stop` is set, or SIGTERM or SIGINT comes. Raises ConfigError.

    It needs nothing to be up: it waits for the gateway, and jobs wait for the other services.
    """
    async with AsyncExitStack() as stack:
        stack.callback(tracing.configure("worker", config.otlp_endpoint))
        metrics = MetricsEndpoint(config.metrics_address, "TRUNKLINE_WORKER_METRICS_ADDRESS")
        stack.callback(metrics.close)
        if stop is None:
            stop = stack.enter_context(stop_requested())
        channels = Channels(TokenSigner(config.suite_key, IDENTITY))
        stack.push_async_callback(channels.close)
        worker = build_worker(config, channels, name or _unique_name())
        garbage.settle()
        log.info(
            "started",
            worker=worker.name,
            gateway=config.gateway_address,
            concurrency=config.worker_concurrency,
        )
        await worker.run(stop)
        log.info("stopped", worker=worker.name)


def build_worker(config: WorkerConfig, channels: Channels, name: str) -> Worker:
    """Wire one worker over open channels."""
    breakers = Breakers(config.breaker_failures, config.breaker_seconds, (TENANT, AUDIO, AI), slow=(AUDIO,))
    clients = Clients.over(
        breakers,
        tenant=channels.get(config.tenant_address),
        audio=channels.get(config.audio_address),
        ai=channels.get(config.ai_address),
    )
    sources = Sources(clients.resolve, config.source_seconds)
    lookups = Lookups(tuple(origin for origin in config.lookup_origins.split(",") if origin))
    stages = Stages(clients, sources, config.degraded_retry_seconds, lookups.ask)
    jobs = job_service_pb2_grpc.JobServiceStub(channels.get(config.gateway_address))
    return Worker(jobs, stages.process, config, name, tell_dead=stages.told_dead)


def _unique_name() -> str:
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{os.urandom(4).hex()}"
