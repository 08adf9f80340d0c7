"""google.longrunning.Operations as every server serves it: the names, and the servicer of a server that has none."""

from __future__ import annotations

from typing import Any

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from trunkline_runtime.api import paging, resources
from trunkline_runtime.errors import InvalidArgument, NotFound

SERVICE = "google.longrunning.Operations"
TENANT = "tenants/{tenant}"
OPERATION = "tenants/{tenant}/operations/{operation}"
MOST_FILTER = 2000


def operation_name(tenant: str, operation: str) -> str:
    """Return the name of an operation; its id begins with the service that owns it: `audio-...`."""
    return resources.format(OPERATION, tenant=tenant, operation=operation)


def owner_of(name: str) -> str:
    """Return the service whose operation a name is, as the name says. Raises InvalidArgument for what is no name."""
    return resources.parse(OPERATION, name)["operation"].partition("-")[0]


def listed_tenant(request: operations_pb2.ListOperationsRequest) -> str:
    """Return the tenant whose operations are asked for. Raises InvalidArgument.

    The messages are Google's, so the rules that protos of ours state stand here.
    """
    tenant = resources.parse(TENANT, request.name)["tenant"]
    if not 0 <= request.page_size <= paging.MOST_PAGE_SIZE:
        raise InvalidArgument("page_size", f"must be 0 to {paging.MOST_PAGE_SIZE}")
    if len(request.filter) > MOST_FILTER:
        raise InvalidArgument("filter", f"must have at most {MOST_FILTER} characters")
    return tenant


class NoOperations(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]
    """Of a server that starts none: its list is empty, and no name is found."""

    async def ListOperations(self, request: Any, context: Any) -> operations_pb2.ListOperationsResponse:
        """Return an empty page."""
        listed_tenant(request)
        return operations_pb2.ListOperationsResponse()

    async def GetOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        """Find nothing."""
        raise _not_found(request.name)

    async def WaitOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        """Find nothing."""
        raise _not_found(request.name)

    async def CancelOperation(self, request: Any, context: Any) -> Empty:
        """Find nothing."""
        raise _not_found(request.name)

    async def DeleteOperation(self, request: Any, context: Any) -> Empty:
        """Find nothing."""
        raise _not_found(request.name)


def _not_found(name: str) -> NotFound:
    resources.parse(OPERATION, name)
    return NotFound(name)
