"""AnalysisService over gRPC: translates, nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.common.v1 import analysis_settings_pb2
from trunkline_runtime.api import paging, resources
from trunkline_runtime.api.times import given_time
from trunkline_runtime.errors import InvalidArgument, NotFound
from trunkline_runtime.identity.callers import CallerKind, current_caller

from trunkline_ai.analyses.analyser import Analyser, AnalysisTask
from trunkline_ai.analyses.dialogue import dialogue_of
from trunkline_ai.analyses.rows import Analyses
from trunkline_ai.cache.tiers import AnswerCache
from trunkline_ai.names import ANALYSIS, CALL, TENANT

AskSettings = Callable[[str], Awaitable[analysis_settings_pb2.AnalysisSettings]]
"""Takes the bare id of a tenant. Raises grpc.RpcError."""


class AnalysisServicer(analysis_service_pb2_grpc.AnalysisServiceServicer):
    """Makes and shows analyses."""

    def __init__(
        self, analyses: Analyses, analyser: Analyser, cache: AnswerCache, settings_of: AskSettings
    ) -> None:
        """`settings_of` is asked how a tenant wants its conversations analysed."""
        self._settings_of = settings_of
        self._analyses = analyses
        self._analyser = analyser
        self._cache = cache

    async def AnalyzeCall(
        self, request: analysis_service_pb2.AnalyzeCallRequest, context: Any
    ) -> analysis_pb2.Analysis:
        """Create or get."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        ids = resources.parse(CALL, request.call, field="call")
        if ids["tenant"] != tenant:
            raise InvalidArgument("call", "must belong to parent")
        # The gateway sends the settings that belong to the call's source.
        if not request.HasField("settings") and current_caller().kind is not CallerKind.SERVICE:
            request.settings.CopyFrom(await self._settings_of(tenant))
        task = AnalysisTask(
            tenant_id=tenant,
            call_id=ids["call"],
            generation=request.generation,
            # An hour of talk takes half a second to read, in which nobody else would be answered.
            conversation=await asyncio.to_thread(dialogue_of, request),
            expire_at=given_time(request, "expire_time"),
        )
        return (await self._analyser.analyse(task)).to_proto()

    async def GetAnalysis(
        self, request: analysis_service_pb2.GetAnalysisRequest, context: Any
    ) -> analysis_pb2.Analysis:
        """One analysis."""
        ids = resources.parse(ANALYSIS, request.name)
        found = await self._analyses.get(ids["tenant"], ids["analysis"])
        if found is None:
            raise NotFound(request.name)
        return found.to_proto()

    async def ListAnalyses(
        self, request: analysis_service_pb2.ListAnalysesRequest, context: Any
    ) -> analysis_service_pb2.ListAnalysesResponse:
        """A page, the latest first."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        found, token = await self._analyses.page(
            tenant, paging.place_of(request, "analyses", request.parent, request.filter), request.filter
        )
        return analysis_service_pb2.ListAnalysesResponse(
            analyses=[analysis.to_proto() for analysis in found], next_page_token=token
        )

    async def DeleteAnalysis(
        self, request: analysis_service_pb2.DeleteAnalysisRequest, context: Any
    ) -> Empty:
        """Gone afterwards, with the models' answers that served its call; NOT_FOUND when it was not there."""
        ids = resources.parse(ANALYSIS, request.name)
        found = await self._analyses.get(ids["tenant"], ids["analysis"])
        if found is None:
            raise NotFound(request.name)
        # Before the row: whoever repeats a request that failed finds it.
        await self._cache.drop(found.tenant_id, found.call_id)
        if not await self._analyses.delete(found.tenant_id, found.analysis_id):
            raise NotFound(request.name)
        return Empty()
