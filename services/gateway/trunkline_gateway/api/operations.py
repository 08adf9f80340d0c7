"""google.longrunning.Operations of the whole suite: each name is asked of the service that owns it, as it says itself.

The HTTP API is derived from this servicer like from any other; Google's own rules know no tenants, so ours stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.api.http_pb2 import HttpRule
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty
from trunkline_runtime.api import paging
from trunkline_runtime.api.resources import tenant_of
from trunkline_runtime.errors import NotFound
from trunkline_runtime.rpc.call import current_rpc
from trunkline_runtime.rpc.channels import Channels, acting_for
from trunkline_runtime.rpc.operations import SERVICE, NoOperations, listed_tenant, owner_of

_NAME = "/v1/{name=tenants/*/operations/*}"
HTTP_RULES: Mapping[str, HttpRule] = {
    f"{SERVICE}.ListOperations": HttpRule(get="/v1/{name=tenants/*}/operations"),
    f"{SERVICE}.GetOperation": HttpRule(get=_NAME),
    f"{SERVICE}.DeleteOperation": HttpRule(delete=_NAME),
    f"{SERVICE}.CancelOperation": HttpRule(post=f"{_NAME}:cancel", body="*"),
    f"{SERVICE}.WaitOperation": HttpRule(post=f"{_NAME}:wait", body="*"),
}
"""The rules of the methods, by their full names: the descriptor's are for names that begin with `operations/`."""

_CALL_SECONDS = 25.0
_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_KEPT_SECONDS = 0.5
"""Kept of the caller's time for the answer to arrive."""


class OperationsService(NoOperations):
    """Forwards to the service that a name says, confined to the name's tenant; a list goes through the services."""

    def __init__(self, channels: Channels, addresses: Mapping[str, str]) -> None:
        """Take the addresses of the services by their names, in the order that a list has them."""
        self._channels = channels
        self._addresses = dict(addresses)

    async def ListOperations(self, request: Any, context: Any) -> operations_pb2.ListOperationsResponse:
        """Return a page: the services one after another, each one's operations the latest first.

        With `return_partial_success`, services that can't be reached are named in `unreachable`.
        """
        tenant = listed_tenant(request)
        digest = paging.digest_of_request("operations", request.name, request.filter)
        services = list(self._addresses)
        place = paging.decode(request.page_token, digest, (str, str))
        at, token = (services[0], "") if place is None else (str(place[0]), str(place[1]))
        left = paging.page_size(request.page_size)
        page = operations_pb2.ListOperationsResponse()
        for service in services[services.index(at) if at in services else len(services) :]:
            asked = operations_pb2.ListOperationsRequest(
                name=request.name, filter=request.filter, page_size=left, page_token=token
            )
            try:
                with acting_for(tenant):
                    answer = await self._stub(service).ListOperations(asked, timeout=_seconds())
            except grpc.RpcError as error:
                if not request.return_partial_success or error.code() not in _UNREACHABLE:
                    raise
                page.unreachable.append(f"services/{service}")
                token = ""
                continue
            page.operations.extend(answer.operations)
            left, token = left - len(answer.operations), answer.next_page_token
            if token or left <= 0:
                after = services[services.index(service) + 1 :]
                if token or after:
                    page.next_page_token = paging.encode((service if token else after[0], token), digest)
                break
        return page

    async def GetOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        """Return one operation."""
        answer: operations_pb2.Operation = await self._forward("GetOperation", request)
        return answer

    async def WaitOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        """Return one operation when it has ended, or as it is when the time is over."""
        answer: operations_pb2.Operation = await self._forward("WaitOperation", request)
        return answer

    async def CancelOperation(self, request: Any, context: Any) -> Empty:
        """End one that runs."""
        answer: Empty = await self._forward("CancelOperation", request)
        return answer

    async def DeleteOperation(self, request: Any, context: Any) -> Empty:
        """Delete one that has ended."""
        answer: Empty = await self._forward("DeleteOperation", request)
        return answer

    async def _forward(self, method: str, request: Any) -> Any:
        owner = owner_of(request.name)
        if owner not in self._addresses:
            raise NotFound(request.name)
        with acting_for(tenant_of(request.name)):
            return await getattr(self._stub(owner), method)(request, timeout=_seconds())

    def _stub(self, service: str) -> operations_pb2_grpc.OperationsStub:
        channel: grpc.aio.Channel = self._channels.get(self._addresses[service])
        return operations_pb2_grpc.OperationsStub(channel)


def _seconds() -> float:
    rpc = current_rpc()
    left = None if rpc is None else rpc.remaining_seconds()
    return _CALL_SECONDS if left is None else max(0.0, min(_CALL_SECONDS, left - _KEPT_SECONDS))
