"""Wires the ai service together: the one place where its parts meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from trunkline.ai.v1 import admin_service_pb2_grpc, analysis_service_pb2_grpc
from trunkline_runtime.engines.base import attended
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.periodic import every
from trunkline_runtime.rpc.authenticator import Authenticator
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.rpc.waiting import opened
from trunkline_store import MAY_PASS, NEVER_PASS, Clock, Database

from trunkline_ai.admin_service import AdminServicer
from trunkline_ai.analyses.analyser import Analyser, domain_error
from trunkline_ai.analyses.rows import Analyses
from trunkline_ai.analyses.service import AnalysisServicer
from trunkline_ai.cache.tiers import SWEEP_SECONDS, AnswerCache
from trunkline_ai.config import LOCAL, AiConfig
from trunkline_ai.engines.base import LanguageEngine
from trunkline_ai.engines.loader import load_engine, local_engine
from trunkline_ai.retention import sweep
from trunkline_ai.schema import metadata


@dataclass(frozen=True, slots=True)
class AiParts:
    """The parts, wired. Nothing listens before `running`."""

    config: AiConfig
    pace: Pace
    db: Database
    server: Server
    analyser: Analyser
    cache: AnswerCache

    def running(self) -> AbstractAsyncContextManager[Server]:
        """Serve while the block lasts. Raises ConfigError."""
        seconds, sleep = self.config.sweep_seconds, self.pace.sleep
        return self.server.running(
            every(seconds, "retention", lambda: sweep(self.db), sleep=sleep),
            every(SWEEP_SECONDS, "cache", self.cache.sweep, sleep=sleep),
        )


@asynccontextmanager
async def build(
    config: AiConfig,
    *,
    clock: Clock | None = None,
    pace: Pace = MACHINE,
    engine: LanguageEngine | None = None,
    authenticator: Authenticator | None = None,
) -> AsyncIterator[AiParts]:
    """Open the store and wire the parts; what was opened is closed in reverse at the end of the block.

    Raises ConfigError, StoreError, StoppedWaiting.
    """
    signer = TokenSigner(config.keys, "ai")
    cache = AnswerCache(config.cache, signer.secret)
    language = engine or load_engine(config, cache)
    fallback = None if config.engine == LOCAL and engine is None else local_engine()
    server = Server(config, service="ai", signer=signer, authenticator=authenticator, translate=domain_error)
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(
            await opened(
                lambda: _open(config, clock),
                MAY_PASS,
                config,
                service="ai",
                signer=signer,
                refused=NEVER_PASS,
            )
        )
        await stack.enter_async_context(cache)
        await stack.enter_async_context(attended(language, server.health))
        if fallback is not None:
            await stack.enter_async_context(fallback)
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
            AdminServicer(db, cache),
            "trunkline.ai.v1.AdminService",
        )

        async def store_answers() -> bool:
            await db.check()
            return True

        server.health.depend("store", store_answers, at_drain=db.hurry)
        yield AiParts(config, pace, db, server, analyser, cache)


async def serve(config: AiConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError, StoreError, StoppedWaiting."""
    async with build(config) as parts, parts.running() as server:
        await server.serve_until_stopped()


async def _open(config: AiConfig, clock: Clock | None) -> Database:
    return await Database.open(
        config.store_url,
        metadata,
        migrations="trunkline_ai.migrations",
        readers=config.readers,
        clock=clock,
    )
