"""The spool and its inbox: nothing acknowledged is lost, and each receipt is in the store once."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

import pytest
from gateway_sources import SECRET, Feed, resolved
from gateway_spool import CONFIRM_SECONDS, opened, receipt, spool_some
from gateway_world import opened as gateway
from trunkline_gateway.hooks.deadlines import Deadlines, NotConfirmed
from trunkline_gateway.hooks.limits import Buckets, Limits
from trunkline_gateway.hooks.receiver import Receiver
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.hooks.unverified import Unverified
from trunkline_gateway.intake.drain import DRAINED
from trunkline_gateway.intake.spool import Spool, SpoolFull, SpoolUnavailable
from trunkline_runtime.testing import value_of
from trunkline_store.errors import InvalidValue, StoreBusy, StoreError
from trunkline_store.sqlite.lock import FileLock


async def test_in_good_times_the_spool_is_not_touched(tmp_path):
    async with opened(tmp_path) as world:
        await world.put(*range(100))
        assert await world.receipts() == list(range(100))
        assert world.spool.rows == 0
        assert world.inbox.describe() == []


@pytest.mark.parametrize("fault", ["hangs", "fails", "silent", "breaks"])
async def test_whatever_the_store_does_every_acknowledged_receipt_is_in_it_once_when_it_is_back(
    tmp_path, fault
):
    async with opened(tmp_path) as world:
        await world.put(*range(10))
        world.store.fault = fault
        began = time.monotonic()
        await world.put(*range(10, 40))
        assert time.monotonic() - began < 10 * CONFIRM_SECONDS
        if world.store.waiting:
            world.store.fault = "fails"  # what came before stays where it is
        await world.put(*range(40, 60))
        assert world.inbox.describe()[0].startswith("store:")
        assert world.spool.rows >= 20
        await world.store.heal()
        await world.drained()
        assert await world.receipts() == list(range(60))
        await world.put(60)
        assert await world.receipts() == list(range(61))
        assert world.spool.rows == 0, "the store takes receipts again"


async def test_a_receipt_keeps_every_column_on_its_way_through_the_spool(tmp_path):
    body = bytes(range(256)) * 40
    async with opened(tmp_path) as world:
        world.store.fault = "fails"
        await world.put(7, body=body)
        world.store.fault = ""
        await world.drained()
        assert await world.rows() == [receipt(7, body)]


async def test_during_an_outage_receipts_do_not_wait_for_the_store(tmp_path):
    async with opened(tmp_path, confirm_seconds=0.3) as world:
        world.store.fault = "hangs"
        await world.put(1)
        handed = world.store.appended
        await world.put(*range(2, 102))
        assert world.store.appended == handed
        await world.store.heal()
        await world.drained()
        assert await world.receipts() == list(range(1, 102))


async def test_while_the_store_is_away_one_receipt_at_a_time_is_tried(tmp_path):
    async with opened(tmp_path) as world:
        world.store.fault = "fails"
        await world.put(*range(20))
        handed = world.store.appended
        await world.until(lambda: world.store.appended >= handed + 2)
        assert world.spool.rows == 20
        world.store.fault = ""
        await world.drained()
        assert await world.receipts() == list(range(20))


async def test_the_drain_tells_admission(tmp_path):
    async with opened(tmp_path) as world:
        world.store.fault = "fails"
        await world.put(1)
        assert world.admitted == 0
        world.store.fault = ""
        await world.drained()
        assert world.admitted == 1


@pytest.mark.parametrize("fault", ["fails", "breaks", "silent"])
async def test_a_store_that_fails_again_while_the_spool_drains_doubles_nothing(tmp_path, fault):
    async with opened(tmp_path) as world:
        world.store.fault = "fails"
        await world.put(*range(20))
        world.store.fault = fault
        handed = world.store.appended
        await world.until(lambda: world.store.appended > handed)
        await world.put(20)
        await world.store.heal()
        await world.drained()
        assert await world.receipts() == list(range(21))


@pytest.mark.parametrize("seed", range(4))
async def test_faults_in_any_order_lose_and_double_nothing(tmp_path, seed):
    async with opened(tmp_path, confirm_seconds=0.02, look_seconds=0.005) as world:
        world.store.random = random.Random(seed)
        acknowledged = set()
        for number in range(100):
            with suppress(StoreError):
                await world.put(number)
                acknowledged.add(number)
            if number % 5 == 4:
                await world.store.tell()
        await world.store.heal()
        await world.drained()
        found = await world.receipts()
        assert len(found) == len(set(found))
        assert acknowledged <= set(found)
        assert len(acknowledged) > 50


async def test_what_is_still_on_its_way_to_the_store_is_not_moved_there_beside_it(tmp_path):
    async with opened(tmp_path, look_seconds=0.005) as world:
        world.store.fault = "hangs"
        await world.put(1)
        world.store.fault = ""
        await asyncio.sleep(0.1)  # twenty looks
        assert world.spool.rows == 1
        await world.store.heal()
        await world.drained()
        assert await world.receipts() == [1]


async def test_a_receipt_that_becomes_doubtful_meanwhile_stops_the_drain(tmp_path):
    async with opened(tmp_path, running=False) as world:
        world.store.fault = "silent"
        await world.put(1)
        with pytest.raises(StoreError):
            await world.inbox._drain.step(10)
        await world.store.heal()
        await world.inbox._drain.resolve()
        while await world.inbox._drain.step(10):
            pass
        assert await world.receipts() == [1]


async def test_what_a_stopped_gateway_left_is_moved_at_the_next_start(tmp_path):
    await spool_some(tmp_path, range(300))
    async with opened(tmp_path) as world:
        await world.drained()
        assert await world.receipts() == list(range(300))


@pytest.mark.parametrize("committed", ["by the drain", "late"])
async def test_a_receipt_that_a_killed_gateway_had_both_stored_and_spooled_stays_one(tmp_path, committed):
    async with opened(tmp_path, running=False) as world:
        await world.put(*range(100, 150))
        world.store.fault = "silent"
        if committed == "late":
            await world.put(1, 2, 3)
        else:
            world.store.fault = "fails"
            await world.put(1, 2, 3)
            world.store.fault = ""
            for number in (1, 2):  # what a drain does before it forgets them
                await world.store.inner.append(receipt(number))
        assert world.spool.rows == 3
        await world.store.heal()
    found = value_of(DRAINED.labels("found"))
    async with opened(tmp_path) as world:
        await world.drained()
        assert await world.receipts() == [1, 2, 3, *range(100, 150)]
        expected = 3 if committed == "late" else 2
        async with asyncio.timeout(5):  # the step that took the last of them counts a moment later
            while value_of(DRAINED.labels("found")) - found < expected:
                await asyncio.sleep(0.01)
    assert value_of(DRAINED.labels("found")) - found == expected


async def test_a_spool_that_holds_as_much_as_it_may_refuses_and_takes_again_when_it_is_drained(tmp_path):
    async with opened(tmp_path, max_bytes=20_000) as world:
        world.store.fault = "fails"
        await world.put(*range(4), body=b"x" * 4000)
        with pytest.raises(SpoolFull):
            await world.put(9, body=b"x" * 4000)
        await world.put(4)
        assert world.spool.rows == 5
        world.store.fault = ""
        await world.drained()
        world.store.fault = "fails"
        await world.put(*range(10, 14), body=b"x" * 4000)
        world.store.fault = ""
        await world.drained()
        assert await world.receipts() == [*range(5), *range(10, 14)]


async def test_a_full_spool_is_a_503_that_says_when_to_try_again(tmp_path):
    import base64
    import hashlib
    import hmac

    async with opened(tmp_path, max_bytes=0) as world:
        receiver = Receiver(
            SourceMap(Feed(resolved()), None), world.inbox, None,
            Limits(Unverified(1, 1_000), *(Buckets(1e9, 1e9, lambda: 0.0) for _ in range(3))),
            public_url="http://x", max_body_bytes=1000, admit_soon=lambda: None,
        )  # fmt: skip
        signature = base64.b64encode(hmac.digest(SECRET.encode(), b"{}", hashlib.sha1))
        scope = {
            "type": "http", "path": "/hooks/s-1/post_call", "method": "POST", "query_string": b"",
            "headers": [(b"signature", signature)],
        }  # fmt: skip
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"{}"}

        async def send(message):
            sent.append(message)

        world.store.fault = "fails"
        for _ in range(2):
            await receiver(scope, receive, send)
        world.store.fault = ""
        await world.until(lambda: not world.inbox._down)
        await receiver(scope, receive, send)
        assert [m["status"] for m in sent if "status" in m] == [503, 503, 202], (
            "it heals, though nothing was spooled"
        )
        assert (b"retry-after", b"1") in sent[0]["headers"]


async def test_a_full_queue_is_refused_while_the_store_moves_and_spooled_when_it_stands_still(tmp_path):
    async with opened(tmp_path, confirm_seconds=0.5) as world:
        world.store.fault = "full"
        with pytest.raises(StoreBusy):
            await world.put(1)
        world.store.fault = "hangs"
        hanging = asyncio.create_task(world.put(2))
        await world.until(lambda: world.inbox._still >= 2)
        world.store.fault = "full"
        await world.put(3)
        assert world.spool.rows == 1
        await world.store.heal()
        await hanging
        await world.drained()
        assert await world.receipts() == [2, 3]


async def test_a_row_that_no_store_takes_is_its_sender_s_fault_and_no_outage(tmp_path):
    async with opened(tmp_path) as world:
        with pytest.raises(InvalidValue):
            await world.inbox.append(receipt(1)._replace(source_id="\ud800"), 1)
        assert world.inbox.describe() == []


async def test_many_webhooks_are_given_up_by_one_timer():
    patience = Deadlines(0.1)
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]
    for future in futures:
        patience.watch(future)
    for _ in range(10):
        patience.tick()
        assert not futures[0].done(), "a full span first"
    futures[1].set_result(None)
    assert patience.waiting
    patience.tick()
    assert isinstance(futures[0].exception(), NotConfirmed)
    assert futures[1].exception() is None
    assert isinstance(futures[2].exception(), NotConfirmed)
    assert not patience.waiting


async def test_a_lone_surrogate_is_its_sender_s_fault_in_the_spool_too(tmp_path):
    async with opened(tmp_path) as world:
        with pytest.raises(InvalidValue):
            world.spool.append(receipt(1)._replace(url="\ud800"), 0)
        assert world.spool.rows == 0


async def test_a_spool_that_cannot_be_opened_is_said_and_is_no_reason_not_to_start(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    async with opened(tmp_path, spool_path=tmp_path / "file" / "spool") as world:
        await world.put(1)
        assert await world.receipts() == [1]
        assert "takes no receipts" in world.inbox.describe()[0]
        assert not world.inbox.can_take
        world.store.fault = "fails"
        with pytest.raises(StoreError):
            await world.put(2)
        world.store.fault = ""
        await world.until(lambda: not world.inbox._down)
        await world.put(3)
        (tmp_path / "file").unlink()
        await world.until(lambda: world.inbox.can_take)
        world.store.fault = "fails"
        await world.put(4)
        world.store.fault = ""
        await world.drained()
        assert await world.receipts() == [1, 3, 4]


async def test_what_an_earlier_run_left_is_moved_once_although_it_could_not_be_read_at_first(
    tmp_path, monkeypatch
):
    async with opened(tmp_path, running=False) as world:
        world.store.fault = "breaks"  # it is in the store, and nobody was told
        await world.put(*range(10))
        assert world.spool.rows == 10
    floors, failures = Spool.floors, iter([1, 1])

    async def fails_twice(self):
        if next(failures, None):
            raise SpoolUnavailable("I/O error")
        return await floors(self)

    monkeypatch.setattr(Spool, "floors", fails_twice)
    async with opened(tmp_path) as world:
        await world.drained()
        assert await world.receipts() == list(range(10))


async def test_a_spool_that_another_process_holds_keeps_no_webhook_from_a_store_that_answers(tmp_path):
    (tmp_path / "mnt").write_text("")  # its volume is not mounted yet
    folder = tmp_path / "mnt" / "spool"
    async with gateway(tmp_path, spool_path=folder) as world:
        inbox = world.gateway.inbox
        await inbox.open()
        (tmp_path / "mnt").unlink()
        (tmp_path / "mnt").mkdir()
        other = FileLock(folder)
        loops = [asyncio.create_task(loop) for loop in (inbox.recover(), inbox.watch())]
        await asyncio.sleep(0.6)  # it looked at the spool twice
        await inbox.append(receipt(1), 10)
        for loop in loops:
            loop.cancel()
        other.release()
