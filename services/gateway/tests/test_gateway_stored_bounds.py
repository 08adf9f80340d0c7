"""What strangers may make the gateway store: counted with its headers, cut, trimmed, and always to be listed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import sqlalchemy as sa
from gateway_deliveries import callrail
from gateway_sources import resolved
from gateway_world import NOW, PARENT, opened
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.tenant.v1 import tenant_pb2
from trunkline_gateway import schema
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.hooks.headers import MOST_KEPT, MOST_VALUE, kept_of_anybody, pack_some
from trunkline_gateway.hooks.settings import MOST_BODY_BYTES
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.intake.rejections import Bounds, Rejections, insert_rejections, rejection_row
from trunkline_gateway.providers.base import Delivery
from trunkline_runtime.identity.access.rules import MOST_MESSAGE_BYTES
from trunkline_runtime.settings import of_field
from trunkline_store.migrations import upgrade

LONG = "x" * 5_000_000
BODY_SETTING = GatewayConfig.__dataclass_fields__["max_body_bytes"]


def with_headers(**headers):
    return Delivery(b"{}", headers, "https://x/", NOW)


def test_of_anybodys_headers_a_few_are_kept_and_each_is_cut():
    many = {f"x-signature-{n}": LONG for n in range(90)} | {"webhook-id": "m-1", "signature" * 100: "1"}
    kept = kept_of_anybody(many)
    assert len(kept) == MOST_KEPT
    assert kept["webhook-id"] == "m-1", (
        "what is known by name comes before what is only called like a signature"
    )
    assert max(map(len, kept.values())) == MOST_VALUE
    assert len(pack_some(many | {"webhook-id": LONG}, ["webhook-id"])) < MOST_VALUE + 20


async def test_a_rejected_request_keeps_little_of_a_header_and_counts_what_it_keeps(tmp_path):
    async with opened(tmp_path) as world:
        await world.keep_rejected(with_headers(signature=LONG))
        (kept,) = await world.rejected()
        assert len(kept.headers["signature"]) == MOST_VALUE
        weight = sa.select(schema.rejections.c.stored_bytes)
        stored = await world.db.read(lambda conn: conn.execute(weight).scalar_one())
        assert MOST_VALUE < stored < MOST_VALUE + 1_000


async def test_headers_count_in_what_waits_and_in_what_is_kept_of_a_source(tmp_path):
    async with opened(tmp_path) as world:
        rejections = Rejections(world.db, keep_per_source=100, keep_bytes=10 * MOST_VALUE)
        for n in range(20):
            delivery = callrail(b"%d" % n)
            rejections.keep(
                source_of(resolved()), "post_call",
                Delivery(delivery.body, {"signature": LONG}, delivery.url, NOW.replace(second=n)), "wrong",
            )  # fmt: skip
        assert rejections._bytes > 20 * MOST_VALUE
        await rejections.flush()
        kept = await world.rejected()
        assert len(kept) == 7, "each weighs its header and some 600 bytes"
        assert [one.body for one in kept][:2] == [b"19", b"18"], "the latest stay"


def row_of(number, source_id="s-1", reason="wrong", size=10, tenant="acme"):
    request = Delivery(b"x" * size, {}, "https://h/x", NOW + timedelta(seconds=number))
    return rejection_row(tenant, source_id, "x", request, {}, reason)


async def kinds_kept(world):
    query = sa.select(schema.rejections.c.source_id, schema.rejections.c.reason)
    return Counter(await world.db.read(lambda conn: [tuple(row) for row in conn.execute(query)]))


async def test_a_flood_with_one_reason_pushes_out_no_other_reason_and_no_other_source(tmp_path):
    async with opened(tmp_path) as world:
        rows = [
            row_of(0, reason="missing"),
            row_of(1, "s-2"),
            row_of(2, reason="rare"),
            row_of(3, reason="rare"),
        ]
        await world.db.write(lambda conn: insert_rejections(conn, rows, Bounds(20)))
        for start in range(10, 310, 30):
            flood = [row_of(n) for n in range(start, start + 30)]
            await world.db.write(lambda conn: insert_rejections(conn, flood, Bounds(20)))  # noqa: B023
        assert await kinds_kept(world) == {
            ("s-1", "wrong"): 17, ("s-1", "missing"): 1, ("s-1", "rare"): 2, ("s-2", "wrong"): 1
        }  # fmt: skip
        times = sa.select(schema.rejections.c.received_at).where(schema.rejections.c.reason == "wrong")
        kept = sorted(await world.db.read(lambda conn: list(conn.execute(times).scalars())))
        assert kept[1] == NOW + timedelta(seconds=309 - 16), "of each reason the latest"


async def test_large_bodies_of_one_reason_or_source_push_out_no_small_ones_of_another(tmp_path):
    async with opened(tmp_path) as world:
        quotas = tenant_pb2.Quotas(rejections_bytes=100_000)
        bounds = Bounds(1_000, 1_000_000, lambda _: quotas)
        rows = [row_of(0, reason="missing"), *(row_of(n, "s-2", size=1_000) for n in range(1, 5))]
        await world.db.write(lambda conn: insert_rejections(conn, rows, bounds))
        flood = [row_of(n, size=9_000) for n in range(10, 50)]
        await world.db.write(lambda conn: insert_rejections(conn, flood, bounds))
        kept = await kinds_kept(world)
        assert (kept["s-1", "missing"], kept["s-2", "wrong"]) == (1, 4)
        assert 5 < kept["s-1", "wrong"] < 11


async def test_in_memory_too_a_flood_drops_its_own(tmp_path):
    async with opened(tmp_path) as world:
        rejections = Rejections(world.db, keep_per_source=100, queue=20)
        rejections.keep(source_of(resolved()), "x", callrail(b"{}"), "missing")
        rejections.keep(source_of(resolved("s-2")), "x", callrail(b"{}"), "wrong")
        for _ in range(297):
            rejections.keep(source_of(resolved()), "x", callrail(b"{}"), "wrong")
        await rejections.flush()
        assert await kinds_kept(world) == {("s-1", "wrong"): 18, ("s-1", "missing"): 1, ("s-2", "wrong"): 1}


async def test_what_was_posted_to_sources_that_never_were_is_bounded_over_all_of_them(tmp_path):
    async with opened(tmp_path) as world:
        rows = [
            rejection_row("", f"guess-{n}", "x", with_headers(), {}, "there is no such source")
            for n in range(30)
        ]
        await world.db.write(lambda conn: insert_rejections(conn, rows, Bounds(7)))
        assert await world.rows(schema.rejections) == 7


async def test_rejections_can_be_listed_whatever_they_weigh(tmp_path):
    async with opened(tmp_path, keep_rejections=500) as world:
        for _ in range(2):
            await world.keep_rejected(*(callrail(b"x" * 300_000) for _ in range(50)))
        seen, token, pages = [], "", 0
        while True:
            request = pb.ListRejectionsRequest(parent=PARENT, page_size=500, page_token=token)
            page = await world.events.ListRejections(request, None)
            assert page.ByteSize() < 5 << 20
            seen += [one.name for one in page.rejections]
            pages, token = pages + 1, page.next_page_token
            if not token:
                break
        assert len(seen) == len(set(seen)) == await world.rows(schema.rejections) == 100
        assert pages == 2


async def test_a_large_header_of_before_is_gone_after_the_migration(tmp_path):
    async with opened(tmp_path) as world:
        await world.keep_rejected(callrail(b"{}"))
        huge = {"x": "y" * 40_000_000}
        await world.db.write(lambda conn: conn.execute(schema.rejections.update().values(headers=huge)))

        def again(conn):
            conn.execute(sa.text("DROP INDEX rejections_by_source"))
            conn.execute(sa.text("ALTER TABLE rejections DROP COLUMN stored_bytes"))
            conn.execute(sa.text("UPDATE alembic_version SET version_num = '0010'"))
            upgrade(conn, "trunkline_gateway.migrations", "0020")

        await world.db.write(again)
        (kept,) = await world.rejected()
        assert (dict(kept.headers), kept.body) == ({}, b"{}")


async def test_a_body_as_large_as_may_be_set_goes_the_whole_way(tmp_path):
    async with opened(tmp_path) as world:
        start = b'{"id": 1, "timestamp": "2026-11-20T07:00:00Z", "pad": "'
        body = start + b"x" * (MOST_BODY_BYTES - len(start) - 2) + b'"}'
        assert len(body) == MOST_BODY_BYTES == of_field(BODY_SETTING).most
        for _ in range(3):
            await world.receipt(body)
        await world.admit()
        (job,) = await world.claim()
        assert job.body == body
        request = pb.GetEventRequest(name=job.event, view=pb.EVENT_VIEW_FULL)
        event = await world.events.GetEvent(request, None)
        assert (event.body, event.receipt_count) == (body, 3)
        assert event.ByteSize() < MOST_MESSAGE_BYTES / 2
        await world.keep_rejected(callrail(body))
        assert (await world.rejected())[0].size_bytes == MOST_BODY_BYTES
