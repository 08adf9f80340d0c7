"""What cannot be verified, read or written is one receipt's trouble: it is told of, and the others go on."""

from __future__ import annotations

import gzip
import json

import pytest
from gateway_conforms_story import receipt
from gateway_sources import resolved
from gateway_world import body_of, opened
from test_gateway_receive import signed
from trunkline.gateway.v1 import event_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.tenant.v1 import tenant_pb2
from trunkline_gateway import schema
from trunkline_gateway.config import MOST_BODY_BYTES
from trunkline_gateway.hooks import verdicts
from trunkline_gateway.hooks.headers import pack
from trunkline_gateway.intake import admission as admit
from trunkline_gateway.providers.callrail.adapter import CallRail
from trunkline_runtime.errors import FailedPrecondition

UNVERIFIED = {"tenant": "", "verdict": verdicts.UNVERIFIED}


def lines(body, **more):
    headers = {name.decode(): value.decode() for name, value in signed(body)}
    return pack({**headers, **{name.replace("_", "-"): value for name, value in more.items()}})


def break_verifier(monkeypatch):
    """Have a bug in it that one body meets."""
    verify = CallRail.verify

    def broken(self, source, delivery):
        if delivery.body == body_of(2):
            raise ZeroDivisionError("a bug")
        return verify(self, source, delivery)

    monkeypatch.setattr(CallRail, "verify", broken)


async def test_a_bug_in_a_verifier_sets_one_receipt_aside_which_can_be_accepted_later(tmp_path, monkeypatch):
    async with opened(tmp_path) as world:
        with monkeypatch.context() as patched:
            break_verifier(patched)
            for number in (1, 2, 3):
                await world.receipt(body_of(number), headers=lines(body_of(number)), **UNVERIFIED)
            await world.admit()
            assert len(await world.listed()) == 2
            (kept,) = await world.rejected()
            assert kept.reason == "it could not be verified (ZeroDivisionError)"
            with pytest.raises(FailedPrecondition, match="ZeroDivisionError"):
                await world.events.AcceptRejection(pb.AcceptRejectionRequest(name=kept.name), None)
            every_one = pb.AcceptRejectionsRequest(parent="tenants/acme")
            assert (await world.events.AcceptRejections(every_one, None)).accepted_count == 0
        await world.events.AcceptRejection(pb.AcceptRejectionRequest(name=kept.name), None)
        await world.admit()
        assert len(await world.listed()) == 3


async def test_an_encoding_that_is_not_taken_is_a_reason_to_reject(tmp_path):
    async with opened(tmp_path) as world:
        headers = lines(body_of(1), content_encoding="br")
        await world.receipt(body_of(1), headers=headers, **UNVERIFIED)
        await world.receipt(body_of(2), headers=lines(body_of(2)), **UNVERIFIED)
        await world.admit()
        assert len(await world.listed()) == 1
        (kept,) = await world.rejected()
        assert "must be gzip" in kept.reason
        with pytest.raises(FailedPrecondition, match="must be gzip"):
            await world.events.AcceptRejection(pb.AcceptRejectionRequest(name=kept.name), None)


async def test_a_rejected_receipt_tells_how_large_it_was(tmp_path):
    async with opened(tmp_path) as world:
        await world.receipt(body_of(1), headers=lines(b"other"), **UNVERIFIED)
        await world.admit()
        shown = await receipt(world, f"{1:032x}")
        assert (shown.state, shown.size_bytes) == (event_pb2.RECEIPT_STATE_REJECTED, len(body_of(1)))


@pytest.mark.parametrize("rejected", [False, True], ids=["an_event", "a_rejection"])
async def test_a_receipt_that_cannot_even_be_a_dead_letter_is_still_found(tmp_path, monkeypatch, rejected):
    table = "insert_rejections" if rejected else "told_apart"
    write = getattr(admit, table)

    def broken(conn, rows, *more):
        seqs = [row["body"] if rejected else row.seq for row in rows]
        if 2 in seqs or body_of(2) in seqs:
            raise OverflowError
        return write(conn, rows, *more)

    monkeypatch.setattr(admit, table, broken)
    async with opened(tmp_path) as world:
        for number in (1, 2, 3):
            how = {"headers": lines(b"other"), "verdict": verdicts.UNVERIFIED} if rejected else {}
            await world.receipt(body_of(number), **how)
        await world.admit()
        assert len(await (world.rejected() if rejected else world.listed())) == 2
        shown = await receipt(world, f"{2:032x}")
        assert (shown.size_bytes, shown.event) == (len(body_of(2)), "")
        assert await world.rows(schema.eventless_receipts) == (3 if rejected else 1)
        assert not await world.admission.step()


@pytest.mark.parametrize("by", ["admission", "one_by_one"])
async def test_however_rejections_are_written_the_quota_of_the_tenant_holds(tmp_path, by, monkeypatch):
    source = resolved()
    source.quotas.CopyFrom(tenant_pb2.Quotas(rejections_bytes=50_000))
    async with opened(tmp_path, source) as world:
        bodies = [b"%d" % number + b"x" * 15_000 for number in range(6)]
        if by == "admission":
            await world.sources.resolve("s-1")
            for body in bodies:
                await world.receipt(body, headers=lines(b"other"), **UNVERIFIED)
            await world.admit()
        else:
            await broken_together(world, monkeypatch, source, bodies)
        assert len(await world.rejected()) == 3


async def broken_together(world, monkeypatch, source, bodies):
    """Keep rejections as a store does that takes them one by one only."""
    from gateway_deliveries import callrail
    from trunkline_gateway.events import rejections
    from trunkline_store.errors import StoreError

    insert = rejections.insert_rejections

    def one_by_one(conn, rows, *bounds):
        if len(rows) > 1:
            raise StoreError("too many")
        return insert(conn, rows, *bounds)

    monkeypatch.setattr(rejections, "insert_rejections", one_by_one)
    world.rejections._quotas_of = lambda tenant: source.quotas
    await world.keep_rejected(*(callrail(body) for body in bodies), source=source)


async def test_a_body_is_opened_up_to_what_a_receivers_limit_can_be(tmp_path):
    def padded(size):
        return json.dumps({"id": 1, "x": "y" * size}).encode()

    async with opened(tmp_path) as world:
        for size in (MOST_BODY_BYTES - 100, MOST_BODY_BYTES + 1):
            packed = gzip.compress(padded(size))
            await world.receipt(packed, headers=lines(packed, content_encoding="gzip"), **UNVERIFIED)
        await world.admit()
        states = {event.state: event.last_error for event in await world.listed()}
        assert len(states) == 2
        assert f"larger than {MOST_BODY_BYTES} bytes" in states[event_pb2.EVENT_STATE_DEAD_LETTER]
