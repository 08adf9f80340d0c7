"""Checks of admission: each receipt becomes what it is, once, whatever is repeated and whoever else admits."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac

import pytest
import sqlalchemy as sa
from gateway_conformance import check
from gateway_sources import SECRET, resolved
from gateway_spool import Faulty, receipt
from gateway_world import body_of
from trunkline.gateway.v1 import event_pb2
from trunkline_gateway import schema
from trunkline_gateway.intake.drain import Drain
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.intake.stored import Stored
from trunkline_gateway.receipts import UNVERIFIED
from trunkline_store.errors import StoreError
from trunkline_store.records.tombstones import bury

NOT_VERIFIED = {"tenant": "", "verdict": UNVERIFIED}


def signed(body):
    return b"signature: " + base64.b64encode(hmac.digest(SECRET.encode(), body, hashlib.sha1))


@check
async def a_receipt_is_an_event_with_its_job_and_a_redelivery_a_link(open):
    async with open() as world:
        name = await world.event(1)
        await world.receipt(body_of(1))
        await world.receipt(body_of(2))
        await world.receipt(body_of(2))
        await world.admit()
        first, second = sorted(await world.listed(), key=lambda event: event.name != name)
        assert (first.name, first.state) == (name, event_pb2.EVENT_STATE_WAITING)
        assert [r.receipt_id for r in (await world.show(name)).receipts] == [f"{1:032x}", f"{2:032x}"]
        assert (await world.show(second.name)).receipt_count == 2
        assert (await world.rows(schema.jobs), await world.rows(schema.event_receipts)) == (2, 4)


@check
async def what_is_malformed_is_a_dead_letter_with_the_reason(open):
    async with open() as world:
        await world.receipt(b"\xff not json")
        await world.receipt(b"\xff not json")
        await world.event(1)
        (dead,) = await world.listed("state = dead_letter")
        assert dead.last_error
        assert (await world.show(dead.name)).receipt_count == 2


@check
async def what_nobody_can_judge_waits_for_the_tenant_service(open):
    async with open() as world:
        world.feed.down = True
        for headers in (signed(body_of(1)), b"signature: AAAA"):
            await world.receipt(body_of(1), headers=headers, url="https://x/", **NOT_VERIFIED)
        await world.receipt(body_of(2), source="s-unknown", **NOT_VERIFIED)
        await world.admit()
        await world.admission.retry_undecided()
        assert (await world.listed(), world.unverified.rows) == ([], 3)
        world.feed.down = False
        await asyncio.gather(*(world.new_admission().retry_undecided() for _ in range(3)))
        (event,) = await world.listed()
        assert (await world.show(event.name)).receipts[0].verdict == event_pb2.VERDICT_UNVERIFIED
        assert [r.source for r in await world.rejected()] == ["tenants/acme/sources/s-1"]
        assert await world.rows(schema.rejections) == 2, "the one without a source is kept for operators"
        assert await world.rows(schema.undecided_receipts) == 0
        await world.admission.retry_undecided()
        assert world.unverified.rows == 0


@check
async def a_crash_before_or_after_the_commit_repeats_nothing(open):
    async with open() as world:
        for _ in range(6):
            await world.receipt(body_of(1))
        real = world.db.write

        async def refuse(fn, **kwargs):
            raise ConnectionError

        async def lose_the_reply(fn, **kwargs):
            await real(fn, **kwargs)
            raise ConnectionError

        for failing in (refuse, lose_the_reply):
            world.db.write = failing
            with pytest.raises(ConnectionError):
                await world.new_admission(batch=4).step()
        world.db.write = real
        await world.admit()
        (event,) = await world.listed()
        assert (await world.show(event.name)).receipt_count == 6
        assert await world.rows(schema.jobs) == 1


@check
async def several_admissions_at_once_admit_each_receipt_once(open):
    async with open() as world:
        for number in range(60):
            await world.receipt(body_of(number % 7))
        others = [world.new_admission(batch=8) for _ in range(3)]
        async with asyncio.timeout(60):
            while any([await asyncio.gather(*(one.step() for one in others))][0]):
                pass
        await world.admit()
        assert len(await world.listed()) == 7
        assert await world.rows(schema.event_receipts) == 60
        assert await world.rows(schema.jobs) == 7


@check
async def a_batch_that_another_took_part_of_is_admitted_for_the_rest(open):
    async with open() as world:
        for number in range(3):
            await world.receipt(body_of(number))
        backlog = world.admission._backlog
        late = await world.db.read(lambda conn: backlog.read(conn, 100))
        assert [row.received_at for row in late.rows] == sorted(row.received_at for row in late.rows)
        # Another one took two of them; where there is a cursor, it stands before the third.
        some = late._replace(rows=late.rows[:2], after=late.rows[2].seq - 1, token=1)
        assert set(await world.db.write(lambda conn: backlog.take(conn, some))) == {
            row.seq for row in some.rows
        }
        taken = set(await world.db.write(lambda conn: backlog.take(conn, late)))
        left = (await world.db.read(lambda conn: backlog.read(conn, 100))).rows
        assert taken | {row.seq for row in left} == {late.rows[2].seq}, "neither lost nor taken twice"
        assert not taken or not left


@check
async def a_backlog_of_many_batches_is_admitted_to_its_end(open):
    async with open() as world:
        await asyncio.gather(*(world.receipt(body_of(number)) for number in range(150)))
        world.admission = world.new_admission(batch=16)
        await world.admit()
        assert len(await world.listed()) == 150
        assert not await world.admission.step()


@check
async def what_comes_late_for_a_deleted_tenant_is_dropped(open):
    async with open() as world:
        await world.receipt(body_of(1))
        await world.db.write(lambda conn: bury(conn, schema.deleted_tenants, "acme", world.clock.now()))
        await world.admit()
        for table in (schema.receipts, schema.events, schema.jobs, schema.event_receipts):
            assert await world.rows(table) == 0, table.name


@check
async def receipts_are_found_by_their_ids_behind_their_floors(open):
    async with open() as world:
        stored = Stored(world.db)
        await world.receipt(body_of(1))
        await stored.raise_floor()
        await world.receipt(body_of(2))
        asked = {f"{2:032x}": stored.floor} | {f"{n:032x}": stored.floor for n in range(100, 1300)}
        assert await stored.among(asked) == {f"{2:032x}"}


@check
async def a_receipt_whose_commit_was_never_confirmed_is_drained_once(open, folder):
    """Handed to the store, written there, said to have failed, spooled, drained: it stands there once."""
    async with open() as world:
        spool = Spool(folder / "spool", 1 << 20)
        await spool.care()
        store, stored = Faulty(world.inbox), Stored(world.db)
        drain = Drain(spool, store, stored, lambda: None)
        store.fault = "breaks"
        for number in (1, 2):
            with pytest.raises(StoreError):
                await store.append(receipt(number, body_of(number)))
            drain.doubt({f"{number:032x}": 0})
        for number in (1, 2, 3):
            await spool.append(receipt(number, body_of(number)), 0)
        store.fault = ""
        await drain.resolve()
        while await drain.step(10):
            pass
        await spool.close()
        ids = sa.select(schema.receipts.c.receipt_id)
        kept = await world.db.read(lambda conn: conn.execute(ids).scalars().all())
        assert sorted(kept) == [f"{number:032x}" for number in (1, 2, 3)]
        await world.admit()
        assert len(await world.listed()) == 3


@check
async def a_source_that_was_deleted_leaves_a_visible_dead_letter(open):
    async with open(resolved("s-2")) as world:
        await world.receipt(body_of(1))
        await world.admit()
        (event,) = await world.listed()
        assert (event.state, event.last_error) == (
            event_pb2.EVENT_STATE_DEAD_LETTER,
            "the source was deleted",
        )
