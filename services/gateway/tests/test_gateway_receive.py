"""Receive: what each kind of webhook is answered, and what is committed before the answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from gateway_sources import SECRET, Feed, WatchedFeed, resolved
from prometheus_client import REGISTRY
from trunkline.common.v1 import provider_pb2
from trunkline_gateway.edge.answers import WEBHOOK
from trunkline_gateway.edge.one_read import WebhookRequest
from trunkline_gateway.hooks.headers import unpack
from trunkline_gateway.hooks.limits import Buckets, Limits
from trunkline_gateway.hooks.receiver import Receiver
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.hooks.unverified import Unverified
from trunkline_gateway.providers.base import Rejected
from trunkline_gateway.providers.twilio.adapter import Twilio
from trunkline_gateway.receipts import UNVERIFIED, VERIFIED
from trunkline_store.errors import StoreBusy

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Inbox:
    def __init__(self):
        self.rows: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def append(self, row, size=0):
        if self.error:
            raise self.error
        if self.gate:
            await self.gate.wait()
        self.rows.append(row)


class Kept:
    def __init__(self):
        self.rows = []

    def keep(self, source, event_type, delivery, reason):
        self.rows.append((source.source_id, event_type, reason))


class World:
    def __init__(self, *sources, rate=1e9, burst=1e9, most=1000, volume=1e9, feed=None, futile=None):
        self.feed, self.inbox, self.kept, self.admitted = feed or Feed(*sources), Inbox(), Kept(), 0
        self.sources = SourceMap(self.feed, None)
        self.unverified, self.looked = Unverified(2, 1 << 20), 0
        self.receiver = Receiver(
            self.sources, self.inbox, self.kept,
            Limits(
                self.unverified, Buckets(rate, burst, lambda: 0.0),
                Buckets(1.0, volume, lambda: 0.0),
                futile or Buckets(50.0, 500.0, lambda: 0.0),
            ),
            public_url="https://hooks.example.com/", max_body_bytes=most, admit_soon=self.admit,
            now=lambda: NOW, sleep=self.held,
        )  # fmt: skip
        self.slept = []

    def admit(self):
        self.admitted += 1

    async def held(self, seconds):
        self.slept.append(seconds)

    async def post(self, path="/hooks/s-1/post_call", chunks=(b"{}",), headers=(), method="POST", query=b""):
        scope = {
            "type": "http",
            "path": path,
            "method": method,
            "headers": list(headers),
            "query_string": query,
        }
        messages = [
            {"type": "http.request", "body": c, "more_body": i + 1 < len(chunks)}
            for i, c in enumerate(chunks)
        ]
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        await self.receiver(scope, receive, send)
        if not sent:
            return None, {}, b""
        return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def signed(body: bytes):
    return [
        (b"signature", base64.b64encode(hmac.digest(SECRET.encode(), body, hashlib.sha1))),
        (b"content-type", b"application/json"),
    ]


async def test_a_signed_webhook_is_202_after_its_receipt_is_committed():
    world = World(resolved())
    world.inbox.gate = asyncio.Event()
    body = b'{"id": 1}'
    answer = asyncio.create_task(world.post(chunks=(body,), headers=signed(body)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not answer.done(), "no answer before the commit"
    world.inbox.gate.set()
    status, _, text = await answer
    (row,) = world.inbox.rows
    assert status == 202
    assert json.loads(text) == {"receiptId": row.receipt_id}
    assert row[1:] == ("s-1", "acme", "post_call", NOW, VERIFIED, "application/json", "", b"", body)
    assert world.admitted == 1


async def test_a_webhook_that_was_read_already_is_taken_and_let_go():
    world = World(resolved())
    body, sent = b'{"id": 1}', []
    headers = {name.decode(): value.decode() for name, value in signed(body)}
    webhook = WebhookRequest("/hooks/s-1/post_call", "s-1", "post_call", headers, body)
    scope = {"type": "http", "path": webhook.target, "method": "POST", WEBHOOK: webhook}

    async def send(message):
        sent.append(message)

    await world.receiver(scope, None, send)
    assert sent[0]["status"] == 202
    assert world.inbox.rows[0].body == body
    assert WEBHOOK not in scope, "its body is held no longer than by the receiver"


@pytest.mark.parametrize(("size", "status"), [(1_000, 202), (1_001, 413)])
async def test_a_webhook_that_was_read_already_is_held_to_the_largest_body(size, status):
    world = World(resolved(), most=1_000)
    body, sent = b"x" * size, []
    headers = {name.decode(): value.decode() for name, value in signed(body)}
    scope = {"type": "http", "path": "/hooks/s-1/e", "method": "POST"}
    scope[WEBHOOK] = WebhookRequest("/hooks/s-1/e", "s-1", "e", headers, body)

    async def send(message):
        sent.append(message)

    await world.receiver(scope, None, send)
    assert sent[0]["status"] == status


async def test_a_body_in_chunks_is_read_whole():
    world = World(resolved())
    body = b'{"id": 12345}'
    status, _, _ = await world.post(chunks=(body[:3], body[3:7], body[7:]), headers=signed(body))
    assert (status, world.inbox.rows[0].body) == (202, body)


@pytest.mark.parametrize(("size", "aside"), [(100, False), (1_000_000, True)])
async def test_a_long_body_is_verified_off_the_loop(size, aside, monkeypatch):
    source = resolved()
    source.source.provider = provider_pb2.PROVIDER_TWILIO
    world = World(source, most=1 << 20)
    ran_in = []

    def verify(_adapter, _source, _delivery):
        ran_in.append(threading.current_thread() is threading.main_thread())
        raise Rejected("no")

    monkeypatch.setattr(Twilio, "verify", verify)
    status, _, _ = await world.post(chunks=(b"a=" + b"%41" * (size // 3),))
    assert (status, ran_in) == (401, [not aside])
    assert world.kept.rows == [("s-1", "post_call", "no")]


async def test_a_sender_that_hangs_up_half_way_leaves_nothing():
    world = World(resolved())
    scope = {
        "type": "http",
        "path": "/hooks/s-1/post_call",
        "method": "POST",
        "headers": [],
        "query_string": b"",
    }
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return messages.pop(0)

    async def send(message):
        raise AssertionError("nobody is there to answer")

    await world.receiver(scope, receive, send)
    assert world.inbox.rows == world.kept.rows == []


def counted(provider, answer):
    labels = {"provider": provider, "answer": answer}
    return REGISTRY.get_sample_value("trunkline_receipts_total", labels)


def test_what_counts_against_the_budget_is_counted_from_0_on():
    World(resolved())
    for answer in ("accepted", "busy", "store_unavailable", "source_unknown", "internal"):
        assert counted("standard_webhooks", answer) is not None, answer


async def test_a_fault_of_the_gateway_itself_is_counted():
    world = World(resolved())
    world.inbox.error = RuntimeError("a bug")
    before = counted("unknown", "internal")
    with pytest.raises(RuntimeError):
        await world.post(headers=signed(b"{}"))
    assert counted("unknown", "internal") == before + 1


async def test_what_waits_to_be_verified_is_no_fault_of_the_suite():
    spent = Buckets(50.0, 500.0, lambda: 0.0)
    spent.charge("acme", 10_000.0)
    world = World(resolved(), most=1 << 20, futile=spent)
    busy, before = counted("callrail", "busy"), counted("callrail", "verification_busy") or 0.0
    status, headers, text = await world.post(chunks=(b" " * 1_000_000,), headers=signed(b"wrong"))
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert json.loads(text)["error"]["details"][0]["reason"] == "VERIFICATION_BUSY"
    assert (counted("callrail", "busy"), counted("callrail", "verification_busy")) == (busy, before + 1)


async def test_the_time_that_a_sender_takes_for_its_body_is_its_own(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    world, body = World(resolved()), b"{}"
    pieces = [body[:1], body[1:]]

    async def receive():
        clock[0] += 3.0
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def append(row, size=0):
        clock[0] += 0.25

    async def send(message):
        pass

    world.inbox.append = append
    scope = {"type": "http", "path": "/hooks/s-1/post_call", "method": "POST", "headers": signed(body),
             "query_string": b""}  # fmt: skip
    before = REGISTRY.get_sample_value("trunkline_receive_seconds_sum")
    await world.receiver(scope, receive, send)
    assert REGISTRY.get_sample_value("trunkline_receive_seconds_sum") - before == pytest.approx(0.25)


async def test_a_wrong_signature_is_401_and_kept():
    world = World(resolved())
    of_source = ("trunkline_source_bad_signatures_total", {"tenant": "acme", "source": "s-1"})
    before = REGISTRY.get_sample_value(*of_source) or 0.0
    with structlog.testing.capture_logs() as lines:
        status, _, text = await world.post(headers=signed(b"other"))
    assert (status, world.inbox.rows) == (401, [])
    assert [line["url"] for line in lines] == ["https://hooks.example.com/hooks/s-1/post_call"]
    assert world.kept.rows == [("s-1", "post_call", json.loads(text)["error"]["message"])]
    assert SECRET not in text.decode()
    assert REGISTRY.get_sample_value(*of_source) == before + 1


@pytest.mark.parametrize("known", [True, False])
async def test_a_source_that_is_not_there_or_does_not_accept_is_the_same_404(known):
    world = World(*([resolved(accepting=False)] if known else []))
    with structlog.testing.capture_logs() as lines:
        status, _, text = await world.post(headers=signed(b"{}"))
    assert status == 404
    told = [line["source"] for line in lines if line["event"] == "webhooks_of_disabled_source"]
    assert told == (["s-1"] if known else [])  # the operator is told what the sender is not
    assert json.loads(text)["error"]["message"] == "there is no source 's-1'"


@pytest.mark.parametrize("known", [True, False])
async def test_what_is_posted_to_a_source_that_is_not_there_is_answered_before_its_body_is_read(known):
    world = World(*([resolved(accepting=False)] if known else []))

    async def never():
        raise AssertionError("a body was asked for")

    for _ in range(2):
        sent = []
        scope = {"type": "http", "path": "/hooks/s-1/x", "method": "POST", "headers": [], "query_string": b""}

        async def send(message):
            sent.append(message)  # noqa: B023

        await world.receiver(scope, never, send)
        assert sent[0]["status"] == 404
    assert world.feed.asked == 1, "a no is kept for a while"


async def test_a_source_nobody_knows_is_asked_for_once_by_many():
    world = World()
    answers = await asyncio.gather(*(world.post() for _ in range(20)))
    assert {status for status, _, _ in answers} == {404}
    assert world.feed.asked == 1


async def test_while_the_tenant_service_is_down_known_sources_serve_and_others_are_kept_unverified_up_to_a_bound():
    world = World(resolved())
    await world.post(headers=signed(b"{}"))
    world.feed.down = True
    assert (await world.post(headers=signed(b"{}")))[0] == 202
    headers = [
        *signed(b"{}"),
        (b"authorization", b"Bearer x"),
        (b"x-api-key", b"Bearer y"),
        (b"x-acme-hmac", b"1"),
    ]
    assert (await world.post("/hooks/s-2/post_call", headers=headers, query=b"a=1"))[0] == 202
    assert (await world.post("/hooks/s-3/post_call"))[0] == 202
    status, answered, _ = await world.post("/hooks/s-4/post_call")
    assert (status, answered[b"retry-after"]) == (503, b"5"), "bounded"
    row = world.inbox.rows[2]
    assert (row.tenant_id, row.verdict) == ("", UNVERIFIED)
    assert row.url == "/hooks/s-2/post_call?a=1", "what came, to be joined with the setting of then"
    assert set(unpack(row.headers)) == {"signature", "x-acme-hmac", "content-type"}, (
        "what may verify it, and nothing else"
    )
    assert b"Bearer" not in row.headers
    world.unverified.looked_at([row.receipt_id for row in world.inbox.rows], [])
    assert (await world.post("/hooks/s-4/post_call"))[0] == 202, "the bound is on what still waits"


@contextlib.asynccontextmanager
async def followed():
    """A world whose sources are followed."""
    world = World(feed=WatchedFeed(resolved()))
    following = asyncio.create_task(world.sources.follow(lambda _: asyncio.sleep(0)))
    while not world.sources.is_followed:
        await asyncio.sleep(0)
    yield world
    following.cancel()


async def test_made_up_sources_cost_few_questions_while_all_sources_are_known_and_nothing_of_them_is_kept():
    async with followed() as world:
        answers = [await world.post(f"/hooks/made-up-{n}/post_call") for n in range(500)]
        assert {status for status, _, _ in answers} == {404, 503}
        assert 100 <= world.feed.asked < 400
        refused = [headers for status, headers, _ in answers if status == 503]
        assert {headers[b"retry-after"] for headers in refused} == {b"1"}
        assert world.inbox.rows == []
        assert (await world.post(headers=signed(b"{}")))[0] == 202, "known sources are served"


async def test_a_look_up_that_comes_late_is_503_for_its_sender_and_rests_nobody_else():
    async with followed() as world:
        world.feed.late = True
        assert (await world.post("/hooks/s-2/post_call"))[0] == 503
        world.feed.late = False
        new = resolved("s-3")
        new.revision = 2
        world.feed.sources["s-3"] = new
        assert (await world.post("/hooks/s-3/post_call", headers=signed(b"{}")))[0] == 202
        assert [row.verdict for row in world.inbox.rows] == [VERIFIED]


async def test_what_cannot_be_looked_up_is_kept_once_the_watch_is_lost_too():
    async with followed() as world:
        world.feed.down = True
        assert (await world.post("/hooks/s-2/post_call"))[0] == 503
        world.feed.lost.set()
        while world.sources.is_followed:
            await asyncio.sleep(0)
        assert (await world.post("/hooks/s-2/post_call"))[0] == 202
        assert [row.verdict for row in world.inbox.rows] == [UNVERIFIED]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_413_and_not_read_further(declared):
    world = World(resolved())
    headers = [(b"content-length", b"1001")] if declared else []
    chunks = (b"x" * 600, b"x" * 600, b"never read")
    status, _, _ = await world.post(chunks=chunks, headers=headers)
    assert (status, world.inbox.rows) == (413, [])


async def test_a_full_queue_is_a_fast_503_with_retry_after():
    world = World(resolved())
    world.inbox.error = StoreBusy("full")
    status, headers, _ = await world.post(headers=signed(b"{}"))
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert world.admitted == 0


async def test_above_the_abuse_ceiling_is_429_and_says_when():
    world = World(resolved(), rate=0.5, burst=1)
    assert (await world.post(headers=signed(b"{}")))[0] == 202
    status, headers, _ = await world.post(headers=signed(b"{}"))
    assert (status, headers[b"retry-after"]) == (429, b"2")
    del world.slept[:-1]
    for _ in range(9):
        await world.post(headers=signed(b"{}"))
    assert len(set(world.slept)) == 10, "who does not wait is kept waiting, each another while"
    assert all(0.5 <= seconds <= 1.5 for seconds in world.slept)


async def test_what_a_source_sends_that_is_near_its_ceiling_is_stored_in_lots():
    world = World(resolved(), resolved("s-2"), rate=0.5, burst=10)
    for _ in range(5):
        await world.post(headers=signed(b"{}"))
    assert world.slept == []
    assert (await world.post(headers=signed(b"{}")))[0] == 202
    (waited,) = world.slept
    assert 0 <= waited <= 0.1, "until the next lot is written"
    await world.post("/hooks/s-2/x", headers=signed(b"{}"))
    assert len(world.slept) == 1, "the other source waits for nothing"


async def test_a_flood_of_one_source_leaves_the_others_and_what_strangers_send_leaves_the_sender():
    world = World(resolved(), resolved("s-2"), rate=0.5, burst=2)
    posts = (
        [("s-1", signed(b"{}"))] * 3 + [("s-2", signed(b"{}"))] + [("s-2", [(b"signature", b"wrong")])] * 3
    )
    posts.append(("s-2", signed(b"{}")))
    answers = [
        (await world.post(f"/hooks/{source}/post_call", headers=headers))[0] for source, headers in posts
    ]
    assert answers == [202, 202, 429, 202, 401, 401, 429, 202]


@pytest.mark.parametrize(
    "path", ["/hooks/s-1", "/hooks/s-1/a/b", "/hooks/S!/x", "/hooks//x", "/hooks/s-1/" + "x" * 65]
)
async def test_another_path_is_404(path):
    assert (await World(resolved()).post(path))[0] == 404


async def test_get_is_405():
    status, headers, _ = await World(resolved()).post(method="GET")
    assert (status, headers[b"allow"]) == (405, b"POST")


async def test_with_the_tenant_service_stopped_no_more_than_the_bound_is_kept_wherever_it_waits():
    world = World()
    world.unverified.most_rows = 300
    world.feed.down = True
    answers = []
    for n in range(1_500):
        answers.append((await world.post(f"/hooks/s-{n}/post_call"))[0])
        if n % 100 == 99:  # admission looks at all that came, and can judge none of it
            rows = world.inbox.rows
            world.unverified.looked_at(
                [row.receipt_id for row in rows[-100:]], [600] * (len(rows) - world.looked)
            )
            world.looked = len(rows)
        if n % 200 == 199:  # and by and by counts what the store holds
            world.unverified.begin_recount()
            world.unverified.recount(len(world.inbox.rows), 600 * len(world.inbox.rows))
    assert (answers.count(202), answers.count(503)) == (300, 1_200)
    assert world.feed.asked < 10, "a service that could not be reached is left alone for a moment"


async def test_unverified_webhooks_are_bounded_in_bytes_too():
    world = World()
    world.unverified.most_rows, world.unverified.most_bytes = 1_000, 10_000
    world.feed.down = True
    answers = [(await world.post(f"/hooks/s-{n}/x", chunks=(b"x" * 900,)))[0] for n in range(20)]
    assert answers.count(202) == 7
    assert world.unverified.bytes <= 10_000


async def test_a_webhook_that_was_not_stored_does_not_count_as_waiting():
    world = World()
    world.feed.down = True
    world.inbox.error = StoreBusy("full")
    for _ in range(5):
        assert (await world.post("/hooks/s-9/x"))[0] == 503
    assert (world.unverified.rows, world.unverified.bytes) == (0, 0)
