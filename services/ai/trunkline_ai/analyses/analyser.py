"""Making an analysis once: the stored one is given back, an engine that fails is stood in for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import datetime

from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors import Internal, TrunklineError, Unavailable
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import histogram
from trunkline_store.clock import Clock
from trunkline_store.records.expiry import expiry

from trunkline_ai.analyses.dialogue import Dialogue
from trunkline_ai.analyses.messages import message_of
from trunkline_ai.analyses.rows import Analyses, StoredAnalysis, result_of
from trunkline_ai.engines.base import AnalysisResult, LanguageEngine
from trunkline_ai.names import analysis_id, call_name

log = get_logger(__name__)

SECONDS = histogram("trunkline_ai_analysis_seconds", "Seconds an analysis took to be made.", ["engine"])


@dataclass(frozen=True)
class AnalysisTask:
    """What is to be analysed; a higher generation analyses the same input anew."""

    tenant_id: str
    call_id: str
    generation: int
    conversation: Dialogue
    expire_at: datetime | None = None
    """When it is deleted; None: as the service is set to."""


class Analyser:
    """Analyses conversations, at most `at_once` at a time; `fallback` answers, degraded, when the engine cannot."""

    def __init__(
        self,
        analyses: Analyses,
        engine: LanguageEngine,
        clock: Clock,
        *,
        fallback: LanguageEngine | None,
        at_once: int,
        keep_days: int = 0,
    ) -> None:
        self._analyses = analyses
        self._engine = engine
        self._fallback = fallback
        self._clock = clock
        self._keep_days = keep_days
        self._turns = asyncio.Semaphore(at_once)

    async def analyse(self, task: AnalysisTask) -> StoredAnalysis:
        """Create or get; a degraded analysis is made again as long as it is one and the engine may answer yet.

        Raises EngineError when neither the engine nor a fallback answers.
        """
        identity = analysis_id(
            call_name(task.tenant_id, task.call_id), task.conversation.digest, task.generation
        )
        found = await self._analyses.get(task.tenant_id, identity)
        if found is not None and found.stands:
            return found
        async with self._turns:
            began = time.perf_counter()
            result = await self._ask(task.conversation)
            SECONDS.labels(result.engine).observe(time.perf_counter() - began)
        if found is not None and result.degraded and not result.final:
            return found
        made = StoredAnalysis(
            tenant_id=task.tenant_id,
            analysis_id=identity,
            call_id=task.call_id,
            generation=task.generation,
            engine=result.engine,
            result=result_of(message_of(result)),
            created_at=self._clock.now(),
            expire_at=expiry(task.expire_at, self._keep_days, self._clock.now()),
        )
        kept = found or await self._analyses.add(made)
        if not made.stands or kept.stands:
            return kept
        await self._analyses.improve(made)
        return await self._analyses.get(task.tenant_id, identity) or made

    async def _ask(self, conversation: Dialogue) -> AnalysisResult:
        try:
            result = await self._engine.analyze(conversation.transcript, conversation.context)
        except EngineError as error:
            if self._fallback is None:
                raise
            # The engine's words may quote the conversation: only that it failed is logged.
            log.warning(
                "engine_failed", engine=self._engine.name, reason=error.reason, transient=error.transient
            )
            result = await self._fallback.analyze(conversation.transcript, conversation.context)
            result = replace(result, degraded=True, final=not error.transient)
        result.usage.count(result.engine)
        return result


def domain_error(error: BaseException) -> TrunklineError | None:
    """The domain error for an error of an engine; None for anything else."""
    if not isinstance(error, EngineError):
        return None
    if error.transient:
        return Unavailable(
            "the engine cannot answer now", reason="ENGINE_UNAVAILABLE", retry_after=error.retry_after or 1.0
        )
    return Internal("the engine cannot answer this", reason="ENGINE_FAILED")
