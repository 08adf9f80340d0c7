"""Wires the ai service together: the one place where its parts meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from trunkline.ai.v1 import admin_service_pb2_grpc, analysis_service_pb2_grpc
from trunkline_runtime.config import ConfigError
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.process.periodic import every
from trunkline_runtime.rpc.authenticator import Authenticator
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.rpc.waiting import opened
from trunkline_store import MAY_PASS, Database

from trunkline_ai.admin_service import AdminServicer
from trunkline_ai.analyses.analyser import Analyser, domain_error
from trunkline_ai.analyses.rows import Analyses
from trunkline_ai.analyses.service import AnalysisServicer
from trunkline_ai.config import AiConfig
from trunkline_ai.engines.base import Engine
from trunkline_ai.engines.loader import load_engine
from trunkline_ai.retention import sweep
from trunkline_ai.schema import metadata


@asynccontextmanager
async def running(
    config: AiConfig, *, engine: Engine | None = None, authenticator: Authenticator | None = None
) -> AsyncIterator[Server]:
    """Serves while the block lasts. Raises ConfigError, StoreLocked, StoppedWaiting."""
    language = engine or _engine(config)
    fallback = None if config.engine == "local" and engine is None else load_engine("local")
    signer = TokenSigner(config.suite_key, "ai")
    server = Server(config, service="ai", signer=signer, authenticator=authenticator, translate=domain_error)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(language.close)
        db = await stack.enter_async_context(
            await opened(lambda: _open(config), MAY_PASS, config, service="ai", signer=signer)
        )
        analyses = Analyses(db, config.list_staleness)
        analyser = Analyser(
            analyses,
            language,
            db.clock,
            fallback=fallback,
            at_once=config.analyses_at_once,
            keep_days=config.analyses_days,
        )
        server.add(
            analysis_service_pb2_grpc.add_AnalysisServiceServicer_to_server,
            AnalysisServicer(analyses, analyser),
            "trunkline.ai.v1.AnalysisService",
        )
        server.add(
            admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
            AdminServicer(db),
            "trunkline.ai.v1.AdminService",
        )

        async def store_answers() -> bool:
            await db.check()
            return True

        server.health.depend("store", store_answers, at_drain=db.hurry)
        await server.start()
        stack.push_async_callback(server.stop)
        sweeping = asyncio.create_task(every(config.sweep_seconds, "retention", lambda: sweep(db)))
        stack.callback(sweeping.cancel)
        yield server


async def serve(config: AiConfig) -> None:
    """Serves until SIGTERM or SIGINT."""
    async with running(config) as server:
        await server.serve_until_stopped()


async def _open(config: AiConfig) -> Database:
    return await Database.open(
        config.store_url, metadata, migrations="trunkline_ai.migrations", readers=config.readers
    )


def _engine(config: AiConfig) -> Engine:
    try:
        return load_engine(config.engine)
    except ValueError as error:
        raise ConfigError(f"TRUNKLINE_AI_ENGINE: {error}") from None
