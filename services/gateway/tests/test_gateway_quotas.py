"""What a tenant may have kept of it: counted exactly, held to cheaply, told; who never resends is kept to the last."""

from __future__ import annotations

import asyncio
import json

import pytest
import sqlalchemy as sa
from gateway_deliveries import callrail
from gateway_sources import resolved
from gateway_world import PARENT, body_of, opened
from trunkline.common.v1 import provider_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.tenant.v1 import tenant_pb2
from trunkline_gateway import schema
from trunkline_gateway.edge.answers import last_words
from trunkline_gateway.events.tenant_deletion import purge_here
from trunkline_gateway.hooks.limits import Limits
from trunkline_gateway.hooks.receiver import Receiver, Refusal
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.intake.kept import OVER, WEIGHT, Kept
from trunkline_jobs import QueueClass
from trunkline_runtime.errors import ResourceExhausted
from trunkline_runtime.testing import value_of
from trunkline_store.migrations import upgrade


def with_quotas(provider=provider_pb2.PROVIDER_CALLRAIL, **quotas):
    source = resolved(**quotas)
    source.source.provider = provider
    return source


async def counted(world):
    kept = Kept(world.db)
    await kept.refresh()
    really = sa.select(sa.func.coalesce(sa.func.sum(WEIGHT), 0)).select_from(schema.receipts)
    assert kept.used("acme") == await world.db.read(lambda conn: conn.execute(really).scalar_one())
    return kept.used("acme")


async def test_what_is_kept_is_counted_with_every_receipt_that_is_admitted_and_deleted(tmp_path):
    async with opened(tmp_path) as world:
        assert await counted(world) == 0
        await world.done(1)
        one = await counted(world)
        await world.receipt(body_of(1))
        await world.admit()
        assert one < await counted(world) < 2 * one, "a redelivery weighs its row, without a body"
        await world.done(2)
        await world.events.PurgeEvents(pb.PurgeEventsRequest(parent=PARENT, filter="", force=True), None)
        assert await counted(world) == 0
        await world.event(3)
        await purge_here(world.db, "acme")
        assert await world.rows(schema.kept_bytes) == 0


async def test_what_was_kept_before_is_counted_by_the_migration(tmp_path):
    async with opened(tmp_path) as world:
        await world.event(1)
        await world.event(2)

        def again(conn):
            conn.execute(sa.text("DROP TABLE kept_bytes"))
            conn.execute(sa.text("UPDATE alembic_version SET version_num = '0021'"))
            upgrade(conn, "trunkline_gateway.migrations", "0022")

        await world.db.write(again)
        assert await counted(world) > 0


async def test_memory_adds_what_was_taken_since_and_may_count_it_twice_but_never_not_at_all(tmp_path):
    async with opened(tmp_path) as world:
        kept = Kept(world.db)
        await kept.refresh()
        kept.take("acme", 1_000)
        assert kept.used("acme") == 1_512
        await kept.refresh()
        assert kept.used("acme") == 1_512, "it may not have been admitted before the store was read"
        await world.event(1)
        await kept.refresh()
        assert kept.used("acme") == await counted(world)


async def test_tenants_whose_plan_allows_no_more_are_counted_for_the_alert(tmp_path):
    async with opened(tmp_path) as world:
        await world.event(1)
        size = await counted(world)
        for most, over in ((0, 0), (size + 1, 0), (size, 1), (0, 0)):
            await Kept(world.db, lambda tenant, most=most: tenant_pb2.Quotas(receipts_bytes=most)).refresh()
            assert value_of(OVER) == over, most


def held(kept, source, size=100):
    limits = Limits(None, None, None, None, kept)
    adapter = Receiver(None, None, None, limits, public_url="", max_body_bytes=1, admit_soon=None)
    from trunkline_gateway.providers.registry import adapter_for

    made = source_of(source)
    adapter._hold_to_quota(made, size, adapter_for(made.provider).resends)


def test_over_the_quota_who_resends_is_told_when_and_who_never_does_is_kept_up_to_twice_as_much():
    kept = Kept(None)
    standard = with_quotas(provider_pb2.PROVIDER_STANDARD_WEBHOOKS, receipts_bytes=10_000)
    never = with_quotas(receipts_bytes=10_000)
    answers = {"standard": 0, "callrail": 0}
    for name, source in (("standard", standard), ("callrail", never)):
        while not kept.is_over(source_of(source), 1 if name == "standard" else 2):
            held(kept, source, 488)
            answers[name] += 1
        with pytest.raises(Refusal) as refused:
            held(kept, source, 488)
        assert (refused.value.status, refused.value.reason) == (429, "RECEIPTS_QUOTA")
        assert refused.value.retry_after == 3_600
    assert answers == {"standard": 10, "callrail": 10}, (
        "a thousand each: up to the quota, and up to twice of it"
    )
    head, _, body = last_words(429, "RECEIPTS_QUOTA", "so much", 3_600).partition(b"\r\n\r\n")
    assert b"retry-after: 3600" in head
    details = json.loads(body)["error"]["details"]
    assert details[1]["@type"].endswith("google.rpc.QuotaFailure")
    assert details[1]["violations"] == [{"subject": "RECEIPTS_QUOTA", "description": "so much"}]


async def test_new_jobs_of_a_tenant_over_its_quota_go_behind_those_of_others(tmp_path):
    async with opened(tmp_path, with_quotas(receipts_bytes=1)) as world:
        await world.event(1)
        await world.gateway.kept.refresh()
        await world.event(2)
        classes = sa.select(schema.jobs.c.queue_class).order_by(schema.jobs.c.queue_class)
        found = await world.db.read(lambda conn: conn.execute(classes).scalars().all())
        assert found == [QueueClass.REALTIME, QueueClass.BACKGROUND]


async def test_of_a_tenants_rejections_the_oldest_go_over_all_its_sources(tmp_path):
    one, other = (resolved(name, rejections_bytes=50_000) for name in ("s-1", "s-2"))
    async with opened(tmp_path, one, other) as world:
        await world.sources.resolve("s-1")
        for n in range(6):
            await world.keep_rejected(callrail(b"x" * 15_000), source=other if n % 2 else one)
        kept = await world.rejected()
        assert [one.source[-1] for one in kept] == ["2", "1", "2"]


async def test_more_replays_at_once_than_the_plan_allows_are_refused(tmp_path):
    async with opened(tmp_path, resolved(replays=2)) as world:
        await world.sources.resolve("s-1")
        await world.dead(1)
        first = await world.replay_all(filter="state = dead_letter", request_id="r-1")
        await world.replay_all(filter="state = dead_letter")
        with pytest.raises(ResourceExhausted) as refused:
            await world.replay_all(filter="state = dead_letter")
        assert refused.value.reason == "REPLAYS_QUOTA"
        again = await world.replay_all(filter="state = dead_letter", request_id="r-1")
        assert again.name == first.name, "a request that is repeated begins nothing"
        await world.replay_all(filter="state = dead_letter", dry_run=True)


async def test_a_tenant_without_quotas_is_held_to_none(tmp_path):
    async with opened(tmp_path) as world:
        kept = Kept(world.db)
        kept.take("acme", 1 << 50)
        assert not kept.is_over(source_of(resolved()))
        await asyncio.sleep(0)
