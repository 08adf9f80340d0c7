"""Making an analysis once, whoever asks for it, and however long it takes: the stored one is given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from trunkline.ai.v1 import analysis_pb2
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors import Internal, TrunklineError, Unavailable
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.metrics import histogram
from trunkline_runtime.rpc.call import current_rpc
from trunkline_store.clock import Clock
from trunkline_store.records.expiry import expiry
from trunkline_words.personal.policy import hidden_kinds

from trunkline_ai.analyses.additions import analysis_of
from trunkline_ai.analyses.dialogue import Dialogue
from trunkline_ai.analyses.rows import REFUSED, Analyses, StoredAnalysis, result_of
from trunkline_ai.engines.base import AnalysisResult
from trunkline_ai.names import analysis_id, call_name
from trunkline_ai.redaction.stored import redact_message
from trunkline_ai.routing.router import Routed, Router
from trunkline_ai.routing.settings import LOCAL

_ANSWER_SECONDS = 0.5
"""Of a caller's deadline, for the way back."""
_COME_BACK_SECONDS = 2.0

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
    """Has conversations analysed, each once at a time. One whose caller gives up goes on, and is stored.

    So the time that it waits for an engine isn't taken from the caller's deadline: the next try finds it.
    """

    def __init__(
        self, analyses: Analyses, router: Router, clock: Clock, *, most: int = 1_000, keep_days: int = 0
    ) -> None:
        """`most` are made or wait at once; a tenant gets one more while more are free than it has."""
        self._analyses = analyses
        self._router = router
        self._clock = clock
        self._most = most
        self._keep_days = keep_days
        self._flights: Flights[tuple[str, str, str], StoredAnalysis] = Flights()

    async def analyse(self, task: AnalysisTask) -> StoredAnalysis:
        """Create or get; a degraded analysis is made again as long as it is one and a better engine may answer yet.

        Raises NotFound for a deleted tenant; Unavailable when it isn't made within the deadline of the RPC, or when too
        many wait; EngineError when no engine answers.
        """
        identity = analysis_id(
            call_name(task.tenant_id, task.call_id), task.conversation.digest, task.generation
        )
        found = await self._analyses.get(task.tenant_id, identity)
        if found is not None and found.stands:
            return found
        key = (task.tenant_id, task.call_id, identity)
        if key not in self._flights and not self._has_room(task.tenant_id):
            raise _come_back("too many analyses wait", "ANALYSES_WAITING")
        try:
            async with asyncio.timeout(_patience()):
                return await self._flights.run(key, lambda: self._make(task, identity))
        except TimeoutError:
            raise _come_back("the analysis is under way", "ANALYSIS_UNDER_WAY") from None
        except asyncio.CancelledError:
            if (asker := asyncio.current_task()) is not None and asker.cancelling():
                raise
            raise _come_back("the analysis was stopped", "ANALYSIS_STOPPED") from None

    def stop(self, tenant: str, calls: Collection[str] | None = None) -> None:
        """End the analyses of a tenant's calls that are being made, or of all of them."""
        for key in self._flights:
            if key[0] == tenant and (calls is None or key[1] in calls):
                self._flights.stop(key)

    async def close(self) -> None:
        """End all that are being made."""
        await self._flights.close()

    def _has_room(self, tenant: str) -> bool:
        free = self._most - len(self._flights)
        if free > len(self._flights):
            return True
        return sum(key[0] == tenant for key in self._flights) < free

    async def _make(self, task: AnalysisTask, identity: str) -> StoredAnalysis:
        # It may have been made since the asker looked, by a flight that has landed.
        found = await self._analyses.to_make(task.tenant_id, identity)
        if found is not None and found.stands:
            return found
        conversation = task.conversation
        began = time.perf_counter()
        answer = await self._router.answer(
            conversation.transcript,
            conversation.context,
            standing=found.engine if found else "",
            refused=found.refused if found else {},
        )
        if (result := answer.result) is None:
            assert found is not None
            if not answer.final and answer.refused == found.refused:
                return found
            better = replace(found, result={**found.result, **_kept_of(answer), "final": answer.final})
        else:
            SECONDS.labels(result.engine).observe(time.perf_counter() - began, tracing.exemplar())
            result.usage.count(result.engine)
            message = await _shown(result, conversation)
            better = StoredAnalysis(
                tenant_id=task.tenant_id,
                analysis_id=identity,
                call_id=task.call_id,
                generation=task.generation,
                engine=result.engine,
                result=result_of(message) | _kept_of(answer),
                created_at=self._clock.now(),
                expire_at=expiry(task.expire_at, self._keep_days, self._clock.now()),
                message=message,
            )
        if found is None:
            kept = await self._analyses.add(better)
            if not better.stands or kept.stands:
                return kept
        await self._analyses.improve(better)
        return await self._analyses.get(task.tenant_id, identity) or better


async def _shown(result: AnalysisResult, conversation: Dialogue) -> analysis_pb2.Analysis:
    """Return the message that is stored: without personal data where the tenant wants that.

    In a thread: it reads the whole conversation for numbers and keywords, half a second for an hour of talk.
    """
    return await asyncio.to_thread(_message, result, conversation)


def _message(result: AnalysisResult, conversation: Dialogue) -> analysis_pb2.Analysis:
    message = analysis_of(result, conversation)
    local = result.engine.startswith(f"{LOCAL}/")
    if kinds := hidden_kinds(conversation.context.settings, local=local):
        redact_message(message, conversation.transcript, kinds)
    return message


def _kept_of(answer: Routed) -> dict[str, Any]:
    """What is kept of an answer beside what it says."""
    return {REFUSED: dict(answer.refused)} if answer.refused else {}


def _patience() -> float | None:
    """Return how long the asker can wait and still be answered; None where it says nothing."""
    rpc = current_rpc()
    remaining = rpc.remaining_seconds() if rpc is not None else None
    return None if remaining is None else max(0.0, remaining - _ANSWER_SECONDS)


def _come_back(told: str, reason: str) -> Unavailable:
    return Unavailable(told, reason=reason, retry_after=_COME_BACK_SECONDS)


def domain_error(error: BaseException) -> TrunklineError | None:
    """The domain error for an error of an engine; None for anything else."""
    if not isinstance(error, EngineError):
        return None
    if error.transient:
        return Unavailable(
            "the engine cannot answer now", reason="ENGINE_UNAVAILABLE", retry_after=error.retry_after or 1.0
        )
    return Internal("the engine cannot answer this", reason="ENGINE_FAILED")
