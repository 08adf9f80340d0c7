"""Errors over HTTP: one status a code, the details kept, and nothing said that is ours to keep."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files
from typing import Any

import gateway_echo as echo
import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from trunkline_gateway.api.problems import HTTP_STATUS, from_rpc, render
from trunkline_runtime import errors

TOO_LARGE = "the request or its answer is too large"
DOMAIN_ERRORS = [
    errors.InvalidArgument("page_size", "must be positive"),
    errors.OutOfRange("past the end"),
    errors.NotFound("things/a"),
    errors.AlreadyExists("things/a"),
    errors.FailedPrecondition("not now", reason="NOT_NOW"),
    errors.Aborted("changed"),
    errors.PermissionDenied("no"),
    errors.Unauthenticated("who?", reason="CREDENTIALS_INVALID"),
    errors.ResourceExhausted("full", retry_after=2.2, subject="calls"),
    errors.Unavailable("later", retry_after=0.1),
    errors.DeadlineExceeded("slow"),
    errors.Cancelled("gone"),
    errors.Unimplemented("never"),
    errors.DataLoss("lost"),
    errors.Unknown("who knows"),
]


def test_the_table_is_that_of_code_proto() -> None:
    text = (files("google.rpc") / "code.proto").read_text()
    said = {name: int(status) for status, name in re.findall(r"HTTP Mapping: (\d+)[^=]*?\n  (\w+) =", text)}
    assert said == {code.name: status for code, status in HTTP_STATUS.items()}


@pytest.mark.parametrize("error", DOMAIN_ERRORS, ids=lambda error: error.code.name)
async def test_a_services_error_is_shown_as_it_is(error: errors.TrunklineError) -> None:
    async with echo.transcoding([echo.echo_service()]) as (client, backend):
        backend.answers[echo.ECHO + "GetThing"] = error
        answer = await client.get("/v1/things/a")
    shown = answer.json()["error"]
    assert answer.status_code == shown["code"] == HTTP_STATUS[error.code]
    assert (shown["message"], shown["status"]) == (error.message, error.code.name)
    details = {detail["@type"].rpartition(".")[2]: detail for detail in shown["details"]}
    assert details["ErrorInfo"]["reason"] == error.reason
    assert details["ErrorInfo"]["domain"] == "trunkline"
    assert details["ErrorInfo"].get("metadata", {}) == error.metadata
    assert "RequestInfo" not in details
    assert ("BadRequest" in details) == bool(error.violations)
    assert ("RetryInfo" in details) == (error.retry_after is not None)


async def test_fields_quota_and_delay_are_told() -> None:
    async with echo.transcoding([echo.echo_service()]) as (client, backend):
        backend.answers[echo.ECHO + "GetThing"] = DOMAIN_ERRORS[8]
        full = await client.get("/v1/things/a")
        backend.answers[echo.ECHO + "GetThing"] = DOMAIN_ERRORS[0]
        bad = await client.get("/v1/things/a")
    assert full.headers["retry-after"] == "3"
    details = {detail["@type"].rpartition(".")[2]: detail for detail in full.json()["error"]["details"]}
    assert details["QuotaFailure"]["violations"] == [{"subject": "calls", "description": "full"}]
    assert details["RetryInfo"]["retryDelay"].startswith("2.2")
    assert {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "page_size", "description": "must be positive"}],
    } in bad.json()["error"]["details"]


async def test_a_service_that_is_not_there_is_503_and_its_address_is_not_said() -> None:
    async with echo.serving([]) as gone:
        address = gone.address
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/x.Y/Z", request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(b"", timeout=5)
    assert address in (raised.value.details() or "")
    status, body, headers = render(from_rpc(raised.value))
    assert (status, dict(headers)[b"retry-after"]) == (503, b"1")
    assert b"127.0.0.1" not in body


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.UNKNOWN, 500), (grpc.StatusCode.INTERNAL, 500), (grpc.StatusCode.DATA_LOSS, 500),
        (grpc.StatusCode.UNIMPLEMENTED, 501), (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504), (grpc.StatusCode.CANCELLED, 503),
        (grpc.StatusCode.UNAUTHENTICATED, 500), (grpc.StatusCode.PERMISSION_DENIED, 500),
    ],
)  # fmt: skip
async def test_what_grpc_itself_says_is_not_shown(code: grpc.StatusCode, status: int) -> None:
    async def fail(_request: Any, context: Any) -> None:
        await context.abort(code, "secret: 10.0.0.7 at /srv/app.py line 5")

    async with echo.transcoding([echo.echo_service()]) as (client, backend):
        backend.answers[echo.ECHO + "GetThing"] = fail
        answer = await client.get("/v1/things/a")
    assert answer.status_code == status
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("said", "message", "reason", "again"),
    [
        ("Concurrent RPC limit exceeded!", "the service is busy; try again", "SERVICE_BUSY", "1"),
        (
            "Bandwidth exhausted or memory limit exceeded",
            "the service is busy; try again",
            "SERVICE_BUSY",
            "1",
        ),
        ("", "the service is busy; try again", "SERVICE_BUSY", "1"),
        ("CLIENT: Received message larger than max (5 vs. 4)", TOO_LARGE, "RESOURCE_EXHAUSTED", None),
        ("CLIENT: Sent message larger than max (5 vs. 4)", TOO_LARGE, "RESOURCE_EXHAUSTED", None),
        ("Decompressed message larger than max", TOO_LARGE, "RESOURCE_EXHAUSTED", None),
        ("received metadata size exceeds hard limit (5 vs. 4)", TOO_LARGE, "RESOURCE_EXHAUSTED", None),
    ],
)
async def test_a_busy_service_is_not_told_as_a_request_that_is_too_large(
    said: str, message: str, reason: str, again: str | None
) -> None:
    async def fail(_request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, said)

    async with echo.transcoding([echo.echo_service()]) as (client, backend):
        backend.answers[echo.ECHO + "GetThing"] = fail
        answer = await client.get("/v1/things/a")
    error = answer.json()["error"]
    assert (answer.status_code, error["message"], answer.headers.get("retry-after")) == (429, message, again)
    assert error["details"][0]["reason"] == reason


async def test_what_grpc_says_of_calls_and_answers_beyond_its_limits_is_told_apart() -> None:
    """The words are gRPC's own: a release that changes them fails this."""
    told, hold = [], asyncio.Event()

    async def wait(_request: Any, _context: Any) -> bytes:
        await hold.wait()
        return bytes(100)

    server = grpc.aio.server(maximum_concurrent_rpcs=1)
    handlers = {"Z": grpc.unary_unary_rpc_method_handler(wait)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.max_receive_message_length", 10)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.unary_unary("/x.Y/Z", request_serializer=bytes, response_deserializer=bytes)
        calls = [asyncio.ensure_future(call(b"", timeout=5)) for _ in range(2)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        hold.set()
        for done in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(done, grpc.aio.AioRpcError)
            told.append(from_rpc(done).message)
    await server.stop(None)
    assert sorted(told) == [TOO_LARGE, "the service is busy; try again"]


async def test_what_only_a_handler_says_is_shown_without_details_too() -> None:
    async def refuse(_request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "things/a was not found")

    async with echo.transcoding([echo.echo_service()]) as (client, backend):
        backend.answers[echo.ECHO + "GetThing"] = refuse
        answer = await client.get("/v1/things/a")
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "things/a was not found")


async def test_a_bug_of_a_service_shows_nothing() -> None:
    async def bug(_request: Any, _context: Any) -> None:
        raise KeyError("password")

    async with echo.transcoding([echo.echo_service()]) as (client, backend):
        backend.answers[echo.ECHO + "GetThing"] = bug
        answer = await client.get("/v1/things/a")
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal error")
    assert "password" not in answer.text


async def test_that_a_service_refuses_our_own_token_is_not_the_callers_401() -> None:
    async with echo.transcoding([echo.echo_service()]) as (client, backend):
        backend.answers[echo.ECHO + "GetThing"] = errors.Unauthenticated("expired", reason="TOKEN_EXPIRED")
        assert (await client.get("/v1/things/a")).status_code == 500


def test_a_detail_of_a_type_nobody_knows_is_left_out() -> None:
    status = status_pb2.Status(code=5, message="no")
    status.details.append(any_pb2.Any(type_url="type.googleapis.com/nobody.Knows", value=b"x"))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="R"))
    _, body, _ = render(status)
    assert body.count(b"@type") == 1
