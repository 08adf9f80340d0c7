"""Wires the ai service together: the one place where its parts meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from trunkline.ai.v1 import admin_service_pb2_grpc, analysis_service_pb2_grpc
from trunkline_runtime.engines.account import TELL_SECONDS, Account, Budgets, Teller
from trunkline_runtime.engines.base import attended
from trunkline_runtime.engines.tenants import asking
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.periodic import every
from trunkline_runtime.rpc.authenticator import Authenticator
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.rpc.waiting import opened
from trunkline_store import MAY_PASS, NEVER_PASS, Clock, Database
from trunkline_store.records.outbox import Outbox

from trunkline_ai.admin_service import AdminServicer
from trunkline_ai.analyses.analyser import Analyser, domain_error
from trunkline_ai.analyses.rows import Analyses
from trunkline_ai.analyses.service import AnalysisServicer, AskSettings
from trunkline_ai.cache.tiers import SWEEP_SECONDS, AnswerCache
from trunkline_ai.config import AiConfig
from trunkline_ai.engines.base import LanguageEngine
from trunkline_ai.retention import sweep
from trunkline_ai.routing.loader import load_engines, local_engine
from trunkline_ai.routing.router import Router
from trunkline_ai.routing.settings import LOCAL
from trunkline_ai.schema import charges, metadata

_PAGE_BYTES = 4 * 1024 * 1024
"""An analysis is read when it was made, or long after: what SQLite keeps of the others is seldom looked at."""


@dataclass(frozen=True, slots=True)
class AiParts:
    """The parts, wired. Nothing listens before `running`."""

    config: AiConfig
    pace: Pace
    db: Database
    server: Server
    analyser: Analyser
    outbox: Outbox
    teller: Teller
    cache: AnswerCache

    def running(self) -> AbstractAsyncContextManager[Server]:
        """Serve while the block lasts. Raises ConfigError."""
        seconds, sleep = self.config.sweep_seconds, self.pace.sleep
        return self.server.running(
            every(seconds, "retention", lambda: sweep(self.db), sleep=sleep),
            every(TELL_SECONDS, "charges", self._tell, sleep=sleep),
            every(SWEEP_SECONDS, "cache", self.cache.sweep, sleep=sleep),
        )

    async def _tell(self) -> None:
        await self.outbox.deliver(self.teller.tell, self.teller.failed)


@asynccontextmanager
async def build(
    config: AiConfig,
    *,
    clock: Clock | None = None,
    pace: Pace = MACHINE,
    engine: LanguageEngine | None = None,
    authenticator: Authenticator | None = None,
    settings_of: AskSettings | None = None,
) -> AsyncIterator[AiParts]:
    """Open the store and wire the parts; what was opened is closed in reverse at the end of the block.

    `engine` is asked before `local` instead of those that the settings name. `settings_of` is asked how a tenant wants
    its conversations analysed.

    Raises ConfigError, StoreError, StoppedWaiting.
    """
    signer = TokenSigner(config.keys, "ai")
    cache = AnswerCache(config.cache, signer.secret)
    channels = Channels.of(config, signer)
    account = Account(Budgets(channels, config.tenant_address))
    settings_of = settings_of or asking(
        channels, config.tenant_address, lambda tenant: tenant.analysis_settings
    )
    engines = (
        load_engines(config, account, cache) if engine is None else {"given": engine, LOCAL: local_engine()}
    )
    server = Server(config, service="ai", signer=signer, authenticator=authenticator, translate=domain_error)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(channels.close)
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
        outbox = Outbox(db, charges)
        account.keep = outbox.keep
        for one in engines.values():
            await stack.enter_async_context(attended(one, server.health))
        analyses = Analyses(db, config.list_staleness)
        router = Router(
            engines,
            policy=config.policy,
            complex_from=config.complex_from,
            at_once=config.analyses_at_once,
        )
        analyser = Analyser(
            analyses, router, db.clock, most=config.analyses_waiting, keep_days=config.analyses_days
        )
        stack.push_async_callback(analyser.close)
        server.add(
            analysis_service_pb2_grpc.add_AnalysisServiceServicer_to_server,
            AnalysisServicer(analyses, analyser, cache, settings_of),
            "trunkline.ai.v1.AnalysisService",
        )
        server.add(
            admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
            AdminServicer(db, cache, analyser.stop),
            "trunkline.ai.v1.AdminService",
        )

        async def store_answers() -> bool:
            await db.check()
            return True

        server.health.depend("store", store_answers, at_drain=db.hurry)
        teller = Teller(channels, config.tenant_address)
        yield AiParts(config, pace, db, server, analyser, outbox, teller, cache)


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
        page_bytes=_PAGE_BYTES,
    )
