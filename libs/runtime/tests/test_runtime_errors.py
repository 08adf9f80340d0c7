"""The error table: one row per status code, both directions, and through a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from trunkline_runtime import errors as e

C = grpc.StatusCode
ROWS: list[tuple[grpc.StatusCode, e.TrunklineError, bool]] = [
    (C.CANCELLED, e.Cancelled("given up"), True),
    (C.UNKNOWN, e.Unknown("no idea"), False),
    (C.INVALID_ARGUMENT, e.InvalidArgument("call.name", "is wrong"), False),
    (C.DEADLINE_EXCEEDED, e.DeadlineExceeded("too slow", metadata={"stage": "transcribe"}), True),
    (C.NOT_FOUND, e.NotFound("tenants/acme/calls/abc"), False),
    (C.ALREADY_EXISTS, e.AlreadyExists("tenants/acme"), False),
    (C.PERMISSION_DENIED, e.PermissionDenied("no", reason="ROLE_TOO_LOW"), False),
    (C.RESOURCE_EXHAUSTED, e.ResourceExhausted("full", retry_after=1.5, subject="tenants/acme"), True),
    (C.FAILED_PRECONDITION, e.FailedPrecondition("not now", reason="RECORDING_GONE"), False),
    (C.ABORTED, e.Aborted("changed", reason="ETAG_MISMATCH"), False),
    (C.OUT_OF_RANGE, e.OutOfRange("past the end"), False),
    (C.UNIMPLEMENTED, e.Unimplemented("not here"), False),
    (C.INTERNAL, e.Internal(), False),
    (C.UNAVAILABLE, e.Unavailable("down", retry_after=0.25, reason="RECORDING_NOT_READY"), True),
    (C.DATA_LOSS, e.DataLoss("gone"), False),
    (C.UNAUTHENTICATED, e.Unauthenticated("who?", reason="TOKEN_EXPIRED"), False),
]


class Answer(grpc.RpcError):
    """What a failed call gives its caller."""

    def __init__(self, status: status_pb2.Status) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return next(c for c in C if c.value[0] == self._status.code)

    def details(self) -> str:
        return self._status.message

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._status.SerializeToString()),)


def test_there_is_one_row_per_code() -> None:
    assert [row[0] for row in ROWS] != []
    assert {row[0] for row in ROWS} == set(C) - {C.OK} == set(e.TABLE)
    assert len(ROWS) == len(e.TABLE)


@pytest.mark.parametrize(("code", "error", "transient"), ROWS, ids=[row[0].name for row in ROWS])
def test_an_error_goes_to_its_status_and_comes_back_the_same(
    code: grpc.StatusCode, error: e.TrunklineError, transient: bool
) -> None:
    status = e.to_status(error)
    assert status.code == code.value[0]
    back = e.from_rpc_error(Answer(status))
    assert type(back) is type(error) is e.TABLE[code]
    assert back.code is code
    assert back.transient is transient
    assert (back.message, back.reason, back.metadata) == (error.message, error.reason, error.metadata)
    assert (back.violations, back.retry_after) == (error.violations, error.retry_after)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("trunkline", error.reason)


@pytest.mark.parametrize(("code", "error", "transient"), ROWS, ids=[row[0].name for row in ROWS])
async def test_an_error_that_a_handler_raises_reaches_the_client_as_itself(
    suite: Any, code: grpc.StatusCode, error: e.TrunklineError, transient: bool
) -> None:
    async def fail(_request: Any, _context: Any) -> None:
        raise error

    suite.handlers["One"] = fail
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await suite.call()
    back = e.from_rpc_error(raised.value)
    assert raised.value.code() is code
    assert (type(back), back.reason, back.metadata, back.violations, back.retry_after) == (
        type(error),
        error.reason,
        error.metadata,
        error.violations,
        error.retry_after,
    )


def test_details_are_those_that_apply() -> None:
    def kinds(error: e.TrunklineError) -> set[str]:
        return {d.type_url.rpartition(".")[2] for d in e.to_status(error, request_id="r1").details}

    assert kinds(e.NotFound("x")) == {"ErrorInfo", "RequestInfo"}
    assert kinds(e.InvalidArgument("f", "m")) == {"ErrorInfo", "RequestInfo", "BadRequest"}
    assert kinds(e.Unavailable("x", retry_after=1)) == {"ErrorInfo", "RequestInfo", "RetryInfo"}
    assert kinds(e.ResourceExhausted("x", retry_after=1, subject="s")) == {
        "ErrorInfo",
        "RequestInfo",
        "RetryInfo",
        "QuotaFailure",
    }


def test_many_violations_name_each_field() -> None:
    error = e.InvalidArgument.many([("a", "is empty"), ("b.c", "is too long")])
    assert error.violations == (("a", "is empty"), ("b.c", "is too long"))
    assert "a: is empty" in error.message
    assert "b.c: is too long" in error.message


def test_internal_shows_nothing_of_its_cause() -> None:
    for cause in (e.Internal("password=hunter2"), KeyError("hunter2")):
        status = e.to_status(cause)
        assert status.code == C.INTERNAL.value[0]
        assert "hunter2" not in str(status)


def test_a_huge_error_still_arrives(request: pytest.FixtureRequest) -> None:
    error = e.InvalidArgument.many([(f"field_{i}" * 50, "wrong " * 200) for i in range(500)])
    assert e.to_status(error, request_id="r").ByteSize() < 5000


@pytest.mark.parametrize(("count", "shown"), [(1, 900), (4, 512), (10, 204)])
def test_a_few_violations_may_say_more_each(count: int, shown: int) -> None:
    error = e.InvalidArgument.many([(f"field_{i}", "w" * 900) for i in range(count)])
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in e.to_status(error).details)
    assert [len(violation.description) for violation in bad.field_violations] == [shown] * count


async def test_a_huge_error_arrives_over_the_wire(suite: Any) -> None:
    async def fail(_request: Any, _context: Any) -> None:
        raise e.InvalidArgument.many([(f"field_{i}" * 50, "wröng " * 200) for i in range(500)])

    suite.handlers["One"] = fail
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await suite.call()
    assert raised.value.code() is C.INVALID_ARGUMENT


def test_an_answer_without_details_keeps_code_and_message() -> None:
    class Bare(Answer):
        def trailing_metadata(self) -> Any:
            return None

    error = e.from_rpc_error(
        Bare(status_pb2.Status(code=C.UNAVAILABLE.value[0], message="connection refused"))
    )
    assert isinstance(error, e.Unavailable)
    assert (error.message, error.reason, error.transient) == ("connection refused", "UNAVAILABLE", True)


def test_details_that_are_garbage_or_of_another_code_are_not_believed() -> None:
    class Garbage(Answer):
        def trailing_metadata(self) -> Any:
            return (("grpc-status-details-bin", b"\xff\xff\xff"),)

    class Lying(Answer):
        def trailing_metadata(self) -> Any:
            return (("grpc-status-details-bin", e.to_status(e.NotFound("x")).SerializeToString()),)

    for kind in (Garbage, Lying):
        error = e.from_rpc_error(kind(status_pb2.Status(code=C.ABORTED.value[0], message="m")))
        assert isinstance(error, e.Aborted)
        assert error.message == "m"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyError("hunter2"), C.INTERNAL),
        (TimeoutError(), C.DEADLINE_EXCEEDED),
        (Answer(e.to_status(e.NotFound("x"))), C.NOT_FOUND),
        (Answer(e.to_status(e.Unavailable("x"))), C.UNAVAILABLE),
        (Answer(e.to_status(e.Unauthenticated("our own token"))), C.INTERNAL),
        (Answer(e.to_status(e.Cancelled("x"))), C.UNAVAILABLE),
        (asyncio.QueueFull("of a library"), C.RESOURCE_EXHAUSTED),
    ],
    ids=[
        "bug",
        "timeout",
        "upstream-not-found",
        "upstream-down",
        "upstream-refuses-us",
        "upstream-drains",
        "translated",
    ],
)
async def test_other_exceptions_of_a_handler_have_a_place_too(
    start_suite: Any, raised: Exception, code: grpc.StatusCode
) -> None:
    def translate(error: Exception) -> e.TrunklineError | None:
        return e.ResourceExhausted("full") if isinstance(error, asyncio.QueueFull) else None

    suite = await start_suite(server={"translate": translate})

    async def fail(_request: Any, _context: Any) -> None:
        raise raised

    suite.handlers["One"] = fail
    with pytest.raises(grpc.aio.AioRpcError) as got:
        await suite.call()
    assert got.value.code() is code
    assert "hunter2" not in str(got.value)


async def test_an_abort_of_a_handler_is_left_as_it_is(suite: Any) -> None:
    async def abort(_request: Any, context: Any) -> None:
        await context.abort(C.OUT_OF_RANGE, "my own words")

    suite.handlers["One"] = abort
    with pytest.raises(grpc.aio.AioRpcError) as got:
        await suite.call()
    assert (got.value.code(), got.value.details()) == (C.OUT_OF_RANGE, "my own words")
