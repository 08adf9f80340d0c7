"""A webhook that came in one read is read as the parser reads it, or left to the parser."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import httptools
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from trunkline_gateway.edge import stock
from trunkline_gateway.edge.answers import WEBHOOK as READ_BEFORE
from trunkline_gateway.edge.answers import accepted
from trunkline_gateway.edge.limits import EdgeLimits, Register
from trunkline_gateway.edge.one_read import WebhookRequest, read_webhook
from trunkline_gateway.edge.protocol import EdgeProtocol

WEBHOOK = b"POST /hooks/s-1/post_call HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nSignature: a+/=\r\n\r\n{}"


class Read:
    """What httptools reads."""

    def __init__(self, data: bytes) -> None:
        self.url, self.body, self.fields, self.ends = b"", b"", [], 0
        self.begun = 0
        self.parser: Any = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower().decode(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


def same(data: bytes, webhook: WebhookRequest) -> None:
    """The parser reads one request, the same one, and would keep its connection."""
    read = Read(data)
    assert (read.begun, read.ends) == (1, 1)
    assert (read.url.decode(), dict(read.fields), read.body) == webhook[0:1] + webhook[3:5]
    assert len(dict(read.fields)) == len(read.fields)
    assert read.parser.get_method() == b"POST"
    assert read.parser.get_http_version() == "1.1"
    assert read.parser.should_keep_alive()
    assert not read.parser.should_upgrade()


def test_an_ordinary_webhook_is_read() -> None:
    webhook = read_webhook(WEBHOOK)
    assert webhook is not None
    assert webhook[:3] == ("/hooks/s-1/post_call", "s-1", "post_call")
    assert webhook.headers == {"host": "h", "content-length": "2", "signature": "a+/="}
    assert webhook.body == b"{}"
    same(WEBHOOK, webhook)


@pytest.mark.parametrize(
    ("part", "by"),
    [
        (b"POST", b"PUT"),
        (b"post_call ", b"post_call?a=b "),
        (b"post_call ", b"a%20b "),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Host: h", b"Host:h"),
        (b"Host: h", b"Host:  h"),
        (b"Host: h", b"Host: h "),
        (b"Host: h", b"Host: "),
        (b"Host: h", b"Host: h\r\n folded"),
        (b"Host: h", b"Host: \xc3\xa4"),
        (b"Host: h", b"Host: a\0b"),
        (b"Host: h", b"Host : h"),
        (b"Host: h", b"Host: h\n"),
        (b"Host: h", b"Transfer-Encoding: chunked"),
        (b"Host: h", b"transfer-encoding: identity"),
        (b"Host: h", b"Expect: 100-continue"),
        (b"Host: h", b"Upgrade: h2c"),
        (b"Host: h", b"Connection: close"),
        (b"Host: h", b"Connection: keep-alive, upgrade"),
        (b"Host: h", b"Content-Length: 2"),
        (b"Host: h", b"content-length: 3"),
        (b"Host: h", b"signature: another"),
        (b"Length: 2", b"Length: 02"),
        (b"Length: 2", b"Length: +2"),
        (b"Length: 2", b"Length: 1"),
        (b"Length: 2", b"Length: 3"),
        (b"Length: 2", b"Size: 2"),
        (b"{}", b"{}POST"),
        (b"{}", b"{"),
        (b"\r\n\r\n{}", b""),
        (b"\r\n\r\n{}", b"\n\n{}"),
    ],
)
def test_what_is_unusual_is_left_to_the_parser(part: bytes, by: bytes) -> None:
    assert part in WEBHOOK
    assert read_webhook(WEBHOOK.replace(part, by)) is None


@pytest.mark.parametrize(
    "field", [b"Connection: keep-alive", b"Connection: Keep-Alive", b"Content-Encoding: gzip"]
)
def test_what_changes_nothing_is_read(field: bytes) -> None:
    data = WEBHOOK.replace(b"Host: h", field)
    webhook = read_webhook(data)
    assert webhook is not None
    same(data, webhook)


_NAMES = [
    "Host",
    "Signature",
    "Connection",
    "Upgrade",
    "TE",
    "Transfer-Encoding",
    "Content-Encoding",
    "Expect",
]
_NAME = st.one_of(st.sampled_from(_NAMES), st.from_regex(r"[A-Za-z0-9-]{1,6}", fullmatch=True))
_PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=8)
_VALUE = st.one_of(st.sampled_from(["keep-alive", "close", "upgrade", "chunked", "gzip", " x", "x "]), _PLAIN)
_DAMAGE = st.one_of(
    st.sampled_from(b"\r \n \r\n \t \0 \x7f \xff : / .. ? # %0d 0 POST HTTP/1.1".split(b" ")),
    st.binary(max_size=3),
)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_whatever_is_read_is_what_the_parser_reads(data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=20))
    fields = [("Content-Length", str(len(body))), *data.draw(st.lists(st.tuples(_NAME, _VALUE), max_size=4))]
    lines = "".join(f"{name}: {value}\r\n" for name, value in data.draw(st.permutations(fields)))
    raw = b"POST /hooks/s-1/e HTTP/1.1\r\n" + lines.encode() + b"\r\n" + body
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(start, min(len(raw), start + 3)))
        raw = raw[:start] + data.draw(_DAMAGE) + raw[end:]
    webhook = read_webhook(raw)
    event("read" if webhook is not None else "left to the parser")
    if webhook is not None:
        same(raw, webhook)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Request(NamedTuple):
    """A request of a stream, and what the application sees of it."""

    raw: bytes
    path: bytes
    body: bytes
    in_one_read: bool = False


def holding(body: bytes, path: bytes = b"/hooks/s-5/e") -> Request:
    raw = b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)
    return Request(raw, path, body)


EARLY = b"/early"  # answered before its body is read
_REQUESTS = (
    Request(WEBHOOK, b"/hooks/s-1/post_call", b"{}"),
    Request(WEBHOOK.replace(b"s-1", b"s-2").replace(b"{}", b"[]"), b"/hooks/s-2/post_call", b"[]"),
    Request(
        WEBHOOK.replace(b"Host: h", b"Connection: upgrade\r\nUpgrade: h2c"), b"/hooks/s-1/post_call", b"{}"
    ),
    Request(
        b"POST /hooks/s-4/e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nSignature: x\r\n\r\n",
        b"/hooks/s-4/e",
        b"{}",
    ),
    Request(b"GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n", b"/v1/x", b""),
    holding(WEBHOOK),  # cut before its body, the rest looks like a webhook of its own
    holding(WEBHOOK, EARLY),
)


async def answered(
    pieces: Sequence[bytes], rests: Sequence[int], slow: Sequence[int], **limits: int
) -> tuple[list[Request], bytes]:
    """What an application sees of the pieces, and what is written, if each answer takes so many turns of the loop."""
    seen: list[Request] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        place = len(seen)
        seen.append(Request(b"", scope["path"].encode(), b""))
        webhook = scope.pop(READ_BEFORE, None)
        if webhook is not None:
            seen[place] = Request(b"", webhook.target.encode(), webhook.body or b"", in_one_read=True)
        elif scope["path"] != EARLY.decode():
            message = await receive()
            body = message["body"]
            while message["more_body"]:
                message = await receive()
                body += message["body"]
            seen[place] = Request(b"", scope["path"].encode(), body)
        for _ in range(slow[place]):
            await asyncio.sleep(0)
        await accepted(scope, send, f"{place:032}")

    server = stock.StockServer(app, EdgeProtocol, 1.0)
    server.config.load()
    register, wire = Register(EdgeLimits(**limits)), Wire()
    connection = EdgeProtocol(server.config, server.server_state, {}, register=register)
    connection.connection_made(wire)
    for piece, rest in itertools.zip_longest(pieces, rests, fillvalue=0):
        connection.data_received(piece)  # type: ignore[arg-type]
        for _ in range(rest):  # type: ignore[arg-type]
            await asyncio.sleep(0)
    while server.server_state.tasks:
        await asyncio.sleep(0)
    return seen, wire.written


@given(st.data())
@settings(deadline=None)
def test_however_a_stream_is_cut_its_requests_are_the_same(data: st.DataObject) -> None:
    stream = data.draw(st.lists(st.sampled_from(_REQUESTS), min_size=1, max_size=6))
    raw = b"".join(request.raw for request in stream)
    ends = list(itertools.accumulate(len(request.raw) for request in stream))
    bodies = [end - len(request.body) for end, request in zip(ends, stream, strict=True)]
    # Cut between requests, where a webhook comes whole, before bodies, and anywhere else.
    cuts = data.draw(
        st.sets(st.one_of(st.sampled_from(ends), st.sampled_from(bodies), st.integers(0, len(raw))))
    )
    pieces = [raw[a:b] for a, b in itertools.pairwise(sorted({0, len(raw), *cuts}))]
    turns = st.integers(0, 3)
    rests = data.draw(st.lists(turns, min_size=len(pieces), max_size=len(pieces)))
    slow = data.draw(st.lists(turns, min_size=len(stream), max_size=len(stream)))
    seen, written = asyncio.run(answered(pieces, rests, slow))
    assert [request.path for request in seen] == [request.path for request in stream]
    for had, sent in zip(seen, stream, strict=True):
        assert had.body == (b"" if sent.path == EARLY else sent.body)
    ids = re.findall(rb'"receiptId":"0*(\d+)"', written)
    assert ids == [b"%d" % place for place in range(len(stream))], "one answer each, in their order"
    assert b"connection: close" not in written


async def test_webhooks_that_come_one_by_one_are_read_without_the_parser() -> None:
    seen, _ = await answered([WEBHOOK, WEBHOOK], [3, 3], [0, 0])
    assert [request.in_one_read for request in seen] == [True, True]


@pytest.mark.parametrize(("limits", "in_one_read"), [({"head_fields": 3}, True), ({"head_bytes": 60}, False)])
async def test_what_the_edge_is_limited_to_is_left_to_the_parser(
    limits: dict[str, int], in_one_read: bool
) -> None:
    seen, _ = await answered([WEBHOOK], [3], [0], **limits)
    assert [request.in_one_read for request in seen] == ([True] if in_one_read else [])


async def test_more_fields_than_the_edge_takes_are_refused() -> None:
    seen, written = await answered([WEBHOOK], [3], [0], head_fields=2)
    assert (seen, written[9:12]) == ([], b"431")


@pytest.mark.parametrize("second", [0, 2])
async def test_a_webhook_that_came_ahead_is_answered_after_the_one_before_it(second: int) -> None:
    seen, written = await answered([WEBHOOK, WEBHOOK, WEBHOOK], [1, 1, 0], [9, second, 0])
    assert [request.in_one_read for request in seen] == [True, False, False]
    assert re.findall(rb'"0*(\d+)"}', written) == [b"0", b"1", b"2"]


async def test_the_body_of_a_request_that_was_answered_early_is_no_webhook() -> None:
    early = holding(WEBHOOK, EARLY)
    head = early.raw[: -len(early.body)]
    seen, written = await answered([head, early.body, WEBHOOK], [5, 5, 5], [0, 0])
    assert [request.path for request in seen] == [EARLY, b"/hooks/s-1/post_call"]
    assert written.count(b" 202 ") == 2


@pytest.mark.parametrize("lines", [1, 4_096])
async def test_empty_lines_between_webhooks_end_no_connection(lines: int) -> None:
    between = b"\r\n" * lines
    rounds = 20_000 // lines + 5
    seen, written = await answered([WEBHOOK, between] * rounds, [2, 0] * rounds, [0] * rounds)
    assert len(seen) == written.count(b" 202 ") == rounds


@pytest.mark.parametrize(
    ("begun", "paths", "status"),
    [
        (b"GET /v1/x HTTP/1.1\r\n", [], b"400"),
        (b"GET /v1/x HTTP/1.1\r\nx: ", [b"/v1/x"], b"202"),  # a field's value
        (b"G", [], b"400"),
    ],
)
async def test_what_follows_half_a_head_is_no_webhook(
    begun: bytes, paths: list[bytes], status: bytes
) -> None:
    seen, written = await answered([begun, WEBHOOK], [3, 3], [0])
    assert [request.path for request in seen] == paths
    assert written[9:12] == status


@pytest.mark.parametrize(("more", "read"), [(61, True), (62, False)])
def test_at_most_64_fields_are_read(more: int, read: bool) -> None:
    fields = b"".join(b"x-%d: 1\r\n" % number for number in range(more))
    assert (read_webhook(WEBHOOK.replace(b"Host", fields + b"Host")) is not None) == read
