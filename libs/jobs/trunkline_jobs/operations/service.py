"""google.longrunning.Operations over gRPC, for a service that starts some: translates, nothing more."""

from __future__ import annotations

import asyncio
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from trunkline_runtime.api import paging, resources
from trunkline_runtime.rpc.call import current_rpc
from trunkline_runtime.rpc.operations import OPERATION, NoOperations, listed_tenant

from trunkline_jobs.operations.rows import Operations

MOST_WAIT_SECONDS = 20.0
"""A WaitOperation returns after this time at the latest, whatever timeout it asks for."""
# What a caller's own deadline leaves for the answer to arrive.
_ANSWER_SECONDS = 0.5


class OperationsServicer(NoOperations):
    """Shows, waits for, cancels and deletes a service's operations."""

    def __init__(self, operations: Operations, stopping: asyncio.Event | None = None) -> None:
        """When `stopping` is set, as at a server's drain, whoever waits is answered at once."""
        self._operations = operations
        self._stopping = stopping

    async def ListOperations(self, request: Any, context: Any) -> operations_pb2.ListOperationsResponse:
        """Return a page, the latest first."""
        tenant = listed_tenant(request)
        place = paging.place_of(request, "operations", request.name, request.filter)
        found, token = await self._operations.page(tenant, place, request.filter)
        return operations_pb2.ListOperationsResponse(
            operations=[operation.to_proto() for operation in found], next_page_token=token
        )

    async def GetOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        """Return one operation."""
        return (await self._operations.get(*_key(request))).to_proto()

    async def WaitOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        """Return one operation when it has ended, or as it is when the time is over."""
        seconds = MOST_WAIT_SECONDS
        if request.HasField("timeout"):
            seconds = min(seconds, request.timeout.seconds + request.timeout.nanos / 1e9)
        rpc = current_rpc()
        left = None if rpc is None else rpc.remaining_seconds()
        if left is not None:
            seconds = min(seconds, left - _ANSWER_SECONDS)
        return (await self._operations.wait(*_key(request), seconds, self._stopping)).to_proto()

    async def CancelOperation(self, request: Any, context: Any) -> Empty:
        """End one that runs."""
        await self._operations.cancel(*_key(request))
        return Empty()

    async def DeleteOperation(self, request: Any, context: Any) -> Empty:
        """Delete one that has ended."""
        await self._operations.delete(*_key(request))
        return Empty()


def _key(request: Any) -> tuple[str, str]:
    ids = resources.parse(OPERATION, request.name)
    return ids["tenant"], ids["operation"]
