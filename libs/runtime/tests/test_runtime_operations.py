"""Every server serves google.longrunning.Operations: one that starts none lists none and finds none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline_runtime.errors import InvalidArgument, from_rpc_error
from trunkline_runtime.identity import access
from trunkline_runtime.rpc.operations import SERVICE, owner_of

C = grpc.StatusCode
NAME = "tenants/acme/operations/audio-1"


@pytest.fixture
async def stub(start_suite: Callable[..., Awaitable[Any]]) -> Any:
    suite = await start_suite(server={"rules": access.TABLE})
    return operations_pb2_grpc.OperationsStub(suite.channel())


async def code(call: Awaitable[Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code()


async def test_a_server_without_operations_lists_none(stub: Any) -> None:
    answer = await stub.ListOperations(operations_pb2.ListOperationsRequest(name="tenants/acme"))
    assert answer == operations_pb2.ListOperationsResponse()


@pytest.mark.parametrize("method", ["GetOperation", "WaitOperation", "CancelOperation", "DeleteOperation"])
async def test_a_server_without_operations_finds_none(stub: Any, method: str) -> None:
    request = getattr(operations_pb2, f"{method}Request")
    assert await code(getattr(stub, method)(request(name=NAME))) is C.NOT_FOUND
    assert await code(getattr(stub, method)(request(name="operations/1"))) is C.INVALID_ARGUMENT
    assert await code(getattr(stub, method)(request(name="tenants/acme/calls/x"))) is C.INVALID_ARGUMENT
    assert await code(getattr(stub, method)(request())) is C.INVALID_ARGUMENT


async def test_a_list_is_asked_for_by_googles_fields_within_our_bounds(stub: Any) -> None:
    asked = operations_pb2.ListOperationsRequest
    wrong = [
        asked(name="tenants/acme", page_size=-1),
        asked(name="tenants/acme", page_size=501),
        asked(name="tenants/acme", filter="x" * 2001),
        asked(name="operations"),
    ]
    for request in wrong:
        assert await code(stub.ListOperations(request)) is C.INVALID_ARGUMENT
    partial = asked(name="tenants/acme", return_partial_success=True)
    assert not (await stub.ListOperations(partial)).unreachable, "one service reaches all of its own"


async def test_health_names_it(start_suite: Callable[..., Awaitable[Any]]) -> None:
    suite = await start_suite()
    await suite.server.health.wait_serving()
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        asked = health_pb2.HealthCheckRequest(service=SERVICE)
        answer = await health_pb2_grpc.HealthStub(channel).Check(asked)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_name_says_whose_operation_it_is() -> None:
    assert owner_of(NAME) == "audio"
    for wrong in (
        "tenants/acme/operations/",
        "tenants/acme/operations/A-1",
        "operations/audio-1",
        "x" * 5000,
    ):
        with pytest.raises(InvalidArgument):
            owner_of(wrong)


async def test_errors_carry_a_reason(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.GetOperation(operations_pb2.GetOperationRequest(name=NAME))
    assert from_rpc_error(raised.value).metadata == {"resource": NAME}
