"""Streams of answers as lines of JSON, and google.api.HttpBody as bytes: bounded, and in step with the reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gateway_echo as echo
import grpc.aio
import httpx
import pytest
from prometheus_client import REGISTRY
from trunkline_cli.suite.web import trusted
from trunkline_gateway.api.credentials import Credentials, Shown
from trunkline_gateway.api.openapi.document import document
from trunkline_gateway.api.transcode.bindings import bindings_of, router_of
from trunkline_gateway.api.transcode.streams import LastPart, Relay
from trunkline_gateway.api.transcode.transcoder import Transcoder
from trunkline_gateway.edge.front import HttpServer
from trunkline_gateway.edge.limits import EdgeLimits
from trunkline_gateway.hooks.limits import Buckets
from trunkline_runtime.errors import NotFound, ResourceExhausted, TrunklineError, Unavailable
from trunkline_runtime.identity.access import Rule
from trunkline_runtime.identity.callers import Caller, CallerKind, Role
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.testing import KEY_FOLDER

STREAM = f"/{echo.PACKAGE}.StreamService/"
WATCH, READ, FOLLOW = (STREAM + name for name in ("WatchThings", "ReadPicture", "FollowThings"))
Served = tuple[httpx.AsyncClient, echo.Backend, HttpServer, Transcoder]


def thing(name: str, **fields: Any) -> Any:
    return echo.message("Thing", name=f"things/{name}", **fields)


@asynccontextmanager
async def serving(
    authenticate: Callable[..., Any] = echo.anybody,
    channels: Channels | None = None,
    limits: EdgeLimits | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """A client over a socket, the backend behind, and the server between."""
    services = [echo.stream_service()]
    options.setdefault("rules", {})
    async with echo.serving(services) as backend, grpc.aio.insecure_channel(backend.address) as plain:
        channel = plain if channels is None else channels.get(backend.address)
        app = Transcoder(router_of(bindings_of(services)), lambda _: channel, authenticate, **options)
        async with (
            echo.listening(app, limits) as server,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{server.port}", verify=trusted(), trust_env=False
            ) as client,
        ):
            yield client, backend, server, app


@pytest.fixture(params=["plain", "ours"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """Over gRPC's own channel, and over one of the suite's, whose streams have interceptors."""
    channels = Channels(TokenSigner(KEY_FOLDER, "gateway")) if request.param == "ours" else None
    async with serving(channels=channels) as parts:
        yield parts
    if channels is not None:
        await channels.close()


# Lines


async def test_each_message_is_a_line_that_is_sent_when_it_comes(served: Served) -> None:
    client, backend, *_ = served
    gates = [asyncio.Event() for _ in range(3)]

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        for i, gate in enumerate(gates):
            await gate.wait()
            yield thing(str(i), display_name="é\nx" if i else "x" * 100_000)

    backend.answers[WATCH] = watch
    gates[0].set()
    async with asyncio.timeout(10), client.stream("GET", "/v1/things/a:watch") as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        assert answer.headers["x-request-id"]
        assert "content-length" not in answer.headers
        names = []
        async for line in answer.aiter_lines():
            names.append(json.loads(line)["name"])
            if len(names) < len(gates):
                gates[len(names)].set()
    assert names == ["things/0", "things/1", "things/2"]
    ((rpc, request, metadata),) = backend.asked
    assert (rpc, request.name, metadata["authorization"]) == (WATCH, "things/a", "Bearer tl_operator")


async def test_a_stream_without_messages_is_an_empty_answer(served: Served) -> None:
    client, *_ = served
    answer = await client.get("/v1/things/a:watch")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert (await client.get("/v1/things/a/picture:read")).headers[
        "content-type"
    ] == "application/octet-stream"


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("things/a"), 404), (ResourceExhausted("busy", retry_after=2.0), 429)]
)
async def test_what_fails_before_the_first_message_is_an_answer_of_its_own(
    served: Served, error: TrunklineError, status: int
) -> None:
    client, backend, *_ = served
    for rpc, path in ((WATCH, "/v1/things/a:watch"), (READ, "/v1/things/a/picture:read")):
        backend.answers[rpc] = [error]
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        assert answer.json()["error"]["code"] == status
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers.get("retry-after") == ("2" if status == 429 else None)


async def test_what_fails_later_is_the_last_line(served: Served) -> None:
    client, backend, *_ = served
    backend.answers[WATCH] = [thing("0"), Unavailable("gone for a while", reason="AWAY", retry_after=1.0)]
    before = _count(WATCH, "503")
    answer = await client.get("/v1/things/a:watch")
    first, last = (json.loads(line) for line in answer.text.splitlines())
    assert (answer.status_code, first["name"]) == (200, "things/0")
    assert last["error"]["code"] == 503
    assert last["error"]["message"] == "gone for a while"
    assert last["error"]["details"][0]["reason"] == "AWAY"
    assert _count(WATCH, "503") == before + 1


# Server-sent events


EVENTS = {"accept": "text/event-stream"}


def events(text: str) -> list[dict[str, str]]:
    """The fields of each event."""
    return [dict(line.split(": ", 1) for line in part.splitlines()) for part in text.split("\n\n") if part]


async def test_whoever_asks_for_events_gets_each_message_as_one_with_its_id(served: Served) -> None:
    client, backend, *_ = served
    followed = [echo.message("Followed", thing="é\nx", cursor=cursor) for cursor in ("1", "", "3\nevent: x")]
    backend.answers[FOLLOW] = followed
    answer = await client.get("/v1/things/a:follow", headers=EVENTS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    found = events(answer.text)
    assert [event.get("id") for event in found] == ["1", None, "3event: x"]
    assert [json.loads(event["data"])["thing"] for event in found] == ["é\nx"] * 3
    lines = (await client.get("/v1/things/a:follow", headers={"accept": "application/x-ndjson"})).text
    assert [json.loads(line)["cursor"] for line in lines.splitlines()] == ["1", "", "3\nevent: x"]


async def test_a_stream_without_cursors_has_events_without_ids(served: Served) -> None:
    client, backend, *_ = served
    backend.answers[WATCH] = [thing("0")]
    (event,) = events((await client.get("/v1/things/a:watch", headers=EVENTS)).text)
    assert (list(event), json.loads(event["data"])["name"]) == (["data"], "things/0")


async def test_a_client_continues_after_the_last_event_that_it_has(served: Served) -> None:
    client, backend, *_ = served
    for query, headers, cursor in (
        ("", {"last-event-id": "7"}, "7"),
        ("?cursor=5", {"last-event-id": "7"}, "5"),
        ("?cursor=5", {}, "5"),
        ("", {}, ""),
    ):
        await client.get(f"/v1/things/a:follow{query}", headers=EVENTS | headers)
        _, request = backend.last()
        assert request.cursor == cursor
    await client.get("/v1/things/a:watch", headers=EVENTS | {"last-event-id": "7"})
    await client.get("/v1/things/a/picture:read", headers=EVENTS)


async def test_events_that_fail_end_with_an_event_of_that_kind(served: Served) -> None:
    client, backend, *_ = served
    backend.answers[FOLLOW] = [echo.message("Followed", cursor="1"), Unavailable("gone", reason="AWAY")]
    first, last = events((await client.get("/v1/things/a:follow", headers=EVENTS)).text)
    assert (first["id"], last["event"]) == ("1", "error")
    assert json.loads(last["data"])["error"]["details"][0]["reason"] == "AWAY"
    backend.answers[FOLLOW] = [NotFound("things/a")]
    answer = await client.get("/v1/things/a:follow", headers=EVENTS)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


def _count(rpc: str, status: str) -> float:
    return REGISTRY.get_sample_value("trunkline_api_requests_total", {"rpc": rpc, "status": status}) or 0.0


async def test_a_stream_ends_at_its_deadline() -> None:
    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield thing("0")
        await asyncio.Event().wait()

    async with serving(stream_seconds=0.2) as (client, backend, *_):
        backend.answers[WATCH] = watch
        lines = (await client.get("/v1/things/a:watch")).text.splitlines()
    assert json.loads(lines[1])["error"]["status"] == "DEADLINE_EXCEEDED"


async def test_a_client_that_hangs_up_ends_the_call(served: Served) -> None:
    client, backend, *_ = served
    ended = asyncio.Event()

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        try:
            yield thing("0")
            await asyncio.Event().wait()
        finally:
            ended.set()

    backend.answers[WATCH] = watch
    async with client.stream("GET", "/v1/things/a:watch") as answer:
        await anext(answer.aiter_lines())
        assert not ended.is_set()
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_stop_ends_streams_and_serves_other_requests(served: Served) -> None:
    client, backend, _, app = served
    begun = 0

    async def watch(request: Any, _context: Any) -> AsyncIterator[Any]:
        nonlocal begun
        begun += 1
        if request.name == "things/talks":
            yield thing("0")
        await asyncio.Event().wait()

    backend.answers[WATCH] = watch
    talks, silent = (
        asyncio.create_task(client.get(f"/v1/things/{who}:watch")) for who in ("talks", "silent")
    )
    await echo.until(lambda: begun == 2)
    async with client.stream("GET", "/v1/things/talks:watch") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        app.stop()
        assert [json.loads(line)["error"]["details"][0]["reason"] async for line in lines] == ["STOPPING"]
    assert json.loads((await talks).text.splitlines()[-1])["error"]["status"] == "UNAVAILABLE"
    for refused in (await silent, await client.get("/v1/things/talks:watch")):
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await client.get("/v1/things/a/picture")).status_code == 200


async def test_a_reader_that_stops_stops_the_service(served: Served) -> None:
    _, backend, server, _ = served
    made = 0

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        nonlocal made
        for _ in range(2_000):
            made += 1
            yield thing("0", display_name="x" * 100_000)

    backend.answers[WATCH] = watch
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(b"GET /v1/things/a:watch HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readexactly(1024)
    seen = -1
    while made != seen:  # until nothing has moved for a while
        seen = made
        await asyncio.sleep(0.5)
    writer.close()
    assert made < 500, "what nobody reads is made and kept somewhere"


async def test_a_reader_that_stops_for_good_loses_its_connection_and_the_call_ends() -> None:
    ended = asyncio.Event()

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        try:
            for _ in range(2_000):
                yield thing("0", display_name="x" * 100_000)
        finally:
            ended.set()

    async with serving(limits=EdgeLimits(quiet_seconds=0.5)) as (_, backend, server, _):
        backend.answers[WATCH] = watch
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET /v1/things/a:watch HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readexactly(1024)
        await asyncio.wait_for(ended.wait(), 20)
        writer.close()


# The relay by itself


class Call:
    """A call whose messages come when they are asked for."""

    def __init__(self, *messages: Any) -> None:
        self.messages = list(messages)
        self.given = 0
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        for message in self.messages:
            if self.cancelled:  # as gRPC's do
                raise asyncio.CancelledError
            self.given += 1
            if isinstance(message, Exception):
                raise message
            yield message

    def cancel(self) -> bool:
        self.cancelled = True
        return True


def relay(send: Callable[[Any], Any], paid: list[int]) -> Relay:
    async def pay(size: int) -> None:
        paid.append(size)

    return Relay(send, empty=(), more=((b"x", b"y"),), pay=pay, told=lambda error: (500, str(error).encode()))


def plainly(message: Any) -> Any:
    return ((b"content-type", b"text/x"),), message.name.encode()


async def test_a_message_is_taken_once_the_one_before_was_sent() -> None:
    call, paid, sent = Call(*(thing(str(i)) for i in range(5))), list[int](), list[Any]()
    gate = asyncio.Semaphore(0)

    async def send(message: Any) -> None:
        await gate.acquire()
        sent.append(message)

    running = asyncio.create_task(relay(send, paid).pass_on(call, plainly))
    for allowed in range(1, 5):
        gate.release()
        # The head, and all bodies but that of the message that was taken last.
        await echo.until(lambda: len(sent) == call.given)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(sent) == call.given == allowed
    gate.release()
    gate.release()
    assert await running == LastPart(200)
    assert (call.cancelled, paid) == (True, [len("things/0")] * 5)
    assert sent[0]["headers"] == [(b"content-type", b"text/x"), (b"x", b"y")]


async def test_a_relay_that_is_cancelled_cancels_its_call() -> None:
    call = Call(thing("0"))

    async def send(_message: Any) -> None:
        await asyncio.Event().wait()

    running = asyncio.create_task(relay(send, []).pass_on(call, plainly))
    await echo.until(lambda: call.given == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert call.cancelled


async def test_a_relay_that_is_stopped_before_it_begins_takes_nothing() -> None:
    call, sent = Call(thing("0")), list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    stopped = relay(send, [])
    stopped.stop()
    with pytest.raises(Unavailable, match="stopping"):
        await stopped.pass_on(call, plainly)
    assert (call.given, sent) == (0, [])


# A tenant's measure


async def test_a_stream_of_a_tenants_pays_for_its_parts_and_rests_when_it_owes() -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    async def member(_header: bytes | None) -> Shown:
        return Shown(Caller(CallerKind.USER, "u1", "acme", Role.MEMBER), "Bearer x")

    rates = Buckets(1.0, 3.0, now=lambda: 0.0)
    async with serving(member, rates=rates, sleep=rest) as (client, backend, *_):
        backend.answers[WATCH] = [thing("0")] * 10  # half a token of 3, and one for the request
        assert len((await client.get("/v1/things/a:watch")).text.splitlines()) == 10
        assert not rests
        backend.answers[WATCH] = [thing("0", display_name="x" * 128 * 1024), thing("1")]
        assert (await client.get("/v1/things/a:watch")).status_code == 200
        assert [round(seconds, 1) for seconds in rests] == [2.5, 2.6]
        refused = await client.get("/v1/things/a:watch")
        assert (refused.status_code, refused.json()["error"]["details"][0]["reason"]) == (429, "API_RATE")


async def test_who_may_not_watch_is_told_before_anything_is_asked() -> None:
    class Keys:
        async def authenticate(self, token: str) -> Caller:
            return Caller(CallerKind.API_KEY, token, token.removeprefix("tl_"), Role.VIEWER)

    rules = {WATCH: Rule(Role.VIEWER, "name"), READ: Rule(Role.ADMIN, "name")}
    credentials = Credentials(Keys(), TokenSigner(KEY_FOLDER, "gateway"))
    async with serving(credentials, rules=rules) as (client, backend, *_):
        for path, status in (("/v1/things/a/picture:read", 403), ("/v1/things/a:watch", 400)):
            answer = await client.get(path, headers={"authorization": "Bearer tl_acme"})
            assert (answer.status_code, backend.asked) == (status, [])


# Bytes


async def test_a_body_of_bytes_is_answered_as_it_is(served: Served) -> None:
    client, backend, *_ = served
    data = bytes(range(256)) * 1000
    backend.answers[STREAM + "GetPicture"] = echo.http_body(data, "image/png")
    answer = await client.get("/v1/things/a/picture")
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["x-content-type-options"] == "nosniff"
    backend.answers[STREAM + "GetFramed"] = echo.message("Picture", bytes=echo.http_body(b"x", "a/b"))
    assert (await client.get("/v1/things/a/framed")).content == b"x"
    backend.answers[STREAM + "GetPicture"] = NotFound("things/a")
    answer = await client.get("/v1/things/a/picture")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


@pytest.mark.parametrize("content_type", ["", "png", "a/b\r\nset-cookie: x", "a/é", "/x", "a/" + "b" * 300])
async def test_a_content_type_that_is_none_is_octets(served: Served, content_type: str) -> None:
    client, backend, *_ = served
    backend.answers[STREAM + "GetPicture"] = echo.http_body(b"x", content_type)
    answer = await client.get("/v1/things/a/picture")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in answer.headers


async def test_a_stream_of_bytes_is_one_body_of_the_first_ones_type(served: Served) -> None:
    client, backend, *_ = served
    backend.answers[READ] = [
        echo.http_body(b"\x00a", "audio/wav"),
        echo.http_body(b""),
        echo.http_body(b"\n", "x/y"),
    ]
    answer = await client.get("/v1/things/a/picture:read")
    assert (answer.headers["content-type"], answer.content) == ("audio/wav", b"\x00a\n")


async def test_a_stream_of_bytes_that_fails_does_not_look_whole(served: Served) -> None:
    client, backend, *_ = served
    backend.answers[READ] = [echo.http_body(b"half", "audio/wav"), Unavailable("gone")]
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/v1/things/a/picture:read")


async def test_any_content_type_goes_into_a_body_of_bytes(served: Served) -> None:
    client, backend, *_ = served
    for data, kind in ((b'{"a', "application/json"), (b"\xff\x00", "audio/wav; rate=8000"), (b"", "x/y")):
        answer = await client.put(
            "/v1/things/a/picture?framed=true", content=data, headers={"content-type": kind}
        )
        assert answer.status_code == 200, answer.text
        rpc, request = backend.last()
        assert (rpc, request.name, request.framed) == (STREAM + "SetPicture", "things/a", True)
        assert (request.bytes.data, request.bytes.content_type) == (data, kind)
        assert request.HasField("bytes")
    await client.post("/v1/pictures:develop", content=b"raw", headers={"content-type": "image/x-raw"})
    assert backend.last()[1] == echo.http_body(b"raw", "image/x-raw")


async def test_a_body_of_bytes_is_bounded_and_not_compressed() -> None:
    async with serving(most_body_bytes=1000) as (client, backend, *_):
        answer = await client.put("/v1/things/a/picture", content=b"x" * 1001)
        assert answer.status_code == 413
        answer = await client.put("/v1/things/a/picture", content=b"x", headers={"content-encoding": "gzip"})
        assert answer.status_code == 415
        answer = await client.put("/v1/things/a/picture?nope=1", content=b"x")
        assert answer.status_code == 400
        assert not backend.asked


def test_the_document_tells_lines_and_bytes() -> None:
    paths = document(bindings_of([echo.stream_service()]))["paths"]
    thing_of = {"$ref": "#/components/schemas/trunkline.echo.v1.Thing"}
    watch = paths["/v1/things/{thingsId}:watch"]["get"]["responses"]["200"]["content"]
    assert watch == {
        "application/x-ndjson": {"schema": thing_of},
        "text/event-stream": {"schema": {"type": "string"}},
    }
    picture = paths["/v1/things/{thingsId}/picture"]
    assert picture["get"]["responses"]["200"]["content"] == {"*/*": {"schema": {}}}
    assert picture["put"]["requestBody"] == {"required": False, "content": {"*/*": {"schema": {}}}}
