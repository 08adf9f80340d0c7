"""Checks of an event's whole story, of what it is found by, and of stopping it."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest
from gateway_conformance import check
from gateway_deliveries import callrail
from gateway_world import NOW, PARENT, body_of
from google.protobuf.duration_pb2 import Duration
from trunkline.gateway.v1 import event_pb2, job_service_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline_gateway import schema
from trunkline_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

CALL = "tenants/acme/calls/c1"
STAGES = ("normalise", "fetch_recording", "transcribe", "analyse", "record")


def passed(*stages, began=NOW):
    """Stages that were gone through one after another, two seconds each."""
    runs = []
    for number, stage in enumerate(stages):
        run = job_service_pb2.StageRun(stage=stage)
        run.start_time.FromDatetime(began + timedelta(seconds=2 * number))
        run.end_time.FromDatetime(began + timedelta(seconds=2 * number + 2))
        runs.append(run)
    return runs


def story(event):
    """Stage, outcome, and when it began and ended in seconds since NOW."""
    return [
        (
            one.stage,
            one.outcome,
            (one.start_time.ToDatetime(UTC) - NOW).total_seconds() if one.HasField("start_time") else None,
            (one.end_time.ToDatetime(UTC) - NOW).total_seconds(),
        )
        for one in event.history
    ]


async def receipt(world, receipt_id, parent=PARENT):
    return await world.events.GetReceipt(pb.GetReceiptRequest(name=f"{parent}/receipts/{receipt_id}"), None)


async def cancel(world, name):
    return await world.events.CancelEvent(pb.CancelEventRequest(name=name), None)


@check
async def a_done_event_tells_every_stage_with_its_times(open):
    async with open() as world:
        name = await world.event(1)
        await world.receipt(body_of(1))
        await world.admit()
        (job,) = await world.claim()
        world.clock.advance(60)
        made = {"normalise": CALL, "record": CALL}
        runs = passed(*STAGES)
        assert await world.report(job, done=job_service_pb2.JobDone(), passed=runs, checkpoint=made) == []
        event = await world.show(name)
        assert story(event) == [(stage, "ok", 2.0 * n, 2.0 * n + 2) for n, stage in enumerate(STAGES)]
        assert (event.stage, event.attempts, event.state) == ("record", 1, event_pb2.EVENT_STATE_DONE)
        (listed,) = await world.listed()
        for shown in (event, listed):
            assert (shown.receipt_count, shown.stage, shown.call) == (2, "record", CALL)
            assert shown.update_time.ToDatetime(UTC) == world.clock.now()


@check
async def a_stage_that_failed_follows_what_went_well_before_it(open):
    async with open() as world:
        name = await world.event(1)
        (job,) = await world.claim()
        moved = job_service_pb2.JobAdvance(next_stage="transcribe")
        await world.report(job, advance=moved, passed=passed("normalise", "fetch_recording"))
        retry = job_service_pb2.JobRetry(delay=Duration(seconds=1), error="it broke")
        began, ended = passed("transcribe", began=NOW + timedelta(seconds=4))[0], NOW + timedelta(seconds=9)
        await world.report(job, retry=retry, start_time=began.start_time, end_time=ended)
        world.clock.advance(20)
        (job,) = await world.claim(worker="w2")
        world.clock.advance(40)  # its lease of 30 s runs out
        (job,) = await world.claim(worker="w3")
        dead = job_service_pb2.JobDead(error="no sound")
        await world.report(
            job, dead=dead, start_time=NOW + timedelta(seconds=61), end_time=NOW + timedelta(seconds=62)
        )
        event = await world.show(name)
        lease_end = (world.clock.now() - NOW).total_seconds() - 10
        assert story(event) == [
            ("normalise", "ok", 0, 2),
            ("fetch_recording", "ok", 2, 4),
            ("transcribe", "retry", 4, 9),
            ("transcribe", "lost", None, lease_end),
            ("transcribe", "dead", 61, 62),
        ]
        assert [one.worker for one in event.history] == ["w1", "w1", "w1", "w2", "w3"]
        assert (event.stage, event.state) == ("transcribe", event_pb2.EVENT_STATE_DEAD_LETTER)


@check
async def of_very_many_attempts_the_last_are_kept(open):
    async with open() as world:
        name = await world.event(1)
        for number in range(18):
            (job,) = await world.claim()
            wait = job_service_pb2.JobWait(delay=Duration(seconds=1), reason=f"not ready {number}")
            await world.report(job, wait=wait, passed=passed(*STAGES))
            world.clock.advance(2)
        event = await world.show(name)
        assert len(event.history) == 100
        assert event.history[-1].error == "not ready 17"


@check
async def a_receipt_says_what_became_of_it_to_its_tenant_alone(open):
    async with open() as world:
        name = await world.event(1)
        first, second = f"{1:032x}", f"{2:032x}"
        await world.receipt(body_of(2), headers=b"authorization: s3cret", url="/hooks/s-1?token=s3cret")
        shown = await receipt(world, first)
        assert (shown.name, shown.receipt_id) == (f"{PARENT}/receipts/{first}", first)
        assert (shown.state, shown.event) == (event_pb2.RECEIPT_STATE_EVENT, name)
        assert (shown.source, shown.event_type, shown.content_type, shown.size_bytes) == (
            "tenants/acme/sources/s-1", "post_call", "application/json", len(body_of(1)),
        )  # fmt: skip
        waiting = await receipt(world, second)
        assert (waiting.state, waiting.event) == (event_pb2.RECEIPT_STATE_WAITING, "")
        assert "s3cret" not in str(waiting)
        await world.admit()
        assert (await receipt(world, second)).state == event_pb2.RECEIPT_STATE_EVENT
        for wrong in ((first, "tenants/globex"), (f"{9:032x}", PARENT)):
            with pytest.raises(NotFound):
                await receipt(world, *wrong)


@check
async def events_are_found_by_receipt_call_and_the_providers_id(open):
    async with open() as world:
        one, two = await world.event(1), await world.event(2)
        first, second = await world.claim()
        await world.report(first, done=job_service_pb2.JobDone(), checkpoint={"record": CALL})
        wait = job_service_pb2.JobWait(delay=Duration(seconds=1), reason="not ready")
        await world.report(second, wait=wait, checkpoint={"normalise": "tenants/acme/calls/c2"})
        for filter_, names in (
            (f'receipt_id = "{1:032x}"', [one]),
            (f'receipt_id != "{1:032x}"', [two]),
            (f'call = "{CALL}"', [one]),
            ("call = c2", [two]),  # while it waits
            ('provider_call_id = "2"', [two]),
            ('provider_call_id != "2" AND state = done', [one]),
            ('receipt_id = "none"', []),
        ):
            assert [event.name for event in await world.listed(filter_)] == names, filter_
        assert (await world.listed("call = c1"))[0].provider_call_id == "1"
        with pytest.raises(InvalidArgument) as refused:
            await world.listed("calls = c1")
        assert "provider_call_id" in str(refused.value)


@check
async def changes_are_followed_by_their_time(open):
    async with open() as world:
        names = [await world.event(number) for number in range(5)]
        since = (await world.show(names[-1])).update_time.ToDatetime(UTC)
        world.clock.advance(10)
        jobs = {job.event: job for job in await world.claim()}
        await world.finish(jobs[names[0]])
        world.clock.advance(1)
        await world.bury(jobs[names[3]])
        world.clock.advance(1)
        await world.replay(names[0], force=True)
        world.clock.advance(1)
        await cancel(world, names[3])
        filter_, seen, token = f'update_time > "{since.isoformat()}"', [], ""
        while True:
            request = pb.ListEventsRequest(
                parent=PARENT, filter=filter_, order_by="update_time", page_size=1, page_token=token
            )
            page = await world.events.ListEvents(request, None)
            seen += [event.name for event in page.events]
            token = page.next_page_token
            if not token:
                break
        assert seen == [names[0], names[3]]
        everything = pb.ListEventsRequest(parent=PARENT, order_by="update_time desc")
        assert [e.name for e in (await world.events.ListEvents(everything, None)).events][:2] == seen[::-1]
        oldest = pb.ListEventsRequest(parent=PARENT, order_by="receive_time")
        assert [e.name for e in (await world.events.ListEvents(oldest, None)).events] == names
        oldest.page_token = page_token_of(await world.events.ListEvents(
            pb.ListEventsRequest(parent=PARENT, page_size=1), None))  # fmt: skip
        with pytest.raises(InvalidArgument):
            await world.events.ListEvents(oldest, None)


def page_token_of(page):
    assert page.next_page_token
    return page.next_page_token


@check
async def an_event_that_waits_is_cancelled_and_its_call_told(open):
    told = []

    async def tell(request):
        told.append(request)

    async with open(tell_call=tell) as world:
        name = await world.event(1)
        (job,) = await world.claim()
        with pytest.raises(FailedPrecondition) as refused:
            await cancel(world, name)
        assert refused.value.reason == "EVENT_PROCESSING"
        wait = job_service_pb2.JobWait(delay=Duration(seconds=1), reason="not ready")
        await world.report(job, wait=wait, checkpoint={"normalise": CALL})
        for _ in range(2):
            event = await cancel(world, name)
            assert event.state == event_pb2.EVENT_STATE_CANCELLED
        assert [request.name for request in told] == [CALL, CALL], "again, in case the first was not heard"
        assert (told[0].event, told[0].state_reason.partition(":")[0]) == (name, "CANCELLED")
        assert event.history[-1].outcome == "cancelled"
        world.clock.advance(60)
        assert await world.claim() == []
        assert [e.name for e in await world.listed("state = cancelled")] == [name]
        await world.replay_all(filter="")
        await world.work()
        assert await world.claim() == [], "many are replayed without what was cancelled"
        assert (await world.replay(name)).state == event_pb2.EVENT_STATE_WAITING
        (job,) = await world.claim()
        await world.finish(job)
        with pytest.raises(FailedPrecondition) as refused:
            await cancel(world, name)
        assert refused.value.reason == "EVENT_DONE"
        for wrong in (name.replace("acme", "globex"), f"{PARENT}/events/none"):
            with pytest.raises(NotFound):
                await cancel(world, wrong)


@check
async def a_cancelled_event_whose_call_cannot_be_told_says_so(open):
    async def tell(request):
        raise Unavailable("not now")

    async with open(tell_call=tell) as world:
        name = await world.event(1)
        (job,) = await world.claim()
        dead = job_service_pb2.JobDead(error="it failed")
        await world.report(job, dead=dead, checkpoint={"normalise": CALL})
        with pytest.raises(Unavailable):
            await cancel(world, name)
        assert (await world.show(name)).state == event_pb2.EVENT_STATE_CANCELLED


@check
async def replays_are_listed_the_latest_first(open):
    async with open() as world:
        made = []
        for number in range(3):
            made.append((await world.replay_all(filter=f"event_type = t{number}")).name)
            world.clock.advance(1)
        request = pb.ListReplaysRequest(parent=PARENT, page_size=2)
        first = await world.events.ListReplays(request, None)
        request.page_token = first.next_page_token
        second = await world.events.ListReplays(request, None)
        assert [replay.name for replay in (*first.replays, *second.replays)] == made[::-1]
        other = pb.ListReplaysRequest(parent="tenants/globex")
        assert not (await world.events.ListReplays(other, None)).replays


async def receipts_of(world, parent):
    """The ids of all receipts of an event or a source, page by page, each as GetReceipt shows it."""
    found, token = [], ""
    while True:
        request = pb.ListReceiptsRequest(parent=parent, page_size=2, page_token=token)
        page = await world.events.ListReceipts(request, None)
        for shown in page.receipts:
            assert shown == await receipt(world, shown.receipt_id)
            found.append(shown.receipt_id)
        token = page.next_page_token
        if not token:
            return found


@check
async def receipts_are_listed_by_event_and_by_source(open):
    async with open() as world:
        first = await world.event(1)
        for _ in range(2):
            world.clock.advance(1)
            await world.receipt(body_of(1))
            await world.admit()
        world.clock.advance(1)
        second = await world.event(2)
        of_first = [one.receipt_id for one in (await world.show(first)).receipts][::-1]
        (of_second,) = [one.receipt_id for one in (await world.show(second)).receipts]
        assert await receipts_of(world, first) == of_first
        of_source = await receipts_of(world, f"{PARENT}/sources/s-1")
        assert (of_source[0], set(of_source[1:])) == (of_second, set(of_first))
        assert len(of_source) == 4
        assert await receipts_of(world, f"{PARENT}/sources/s-2") == []
        assert await receipts_of(world, "tenants/globex/sources/s-1") == []
        for parent in (first.replace("acme", "globex"), f"{PARENT}/events/none"):
            with pytest.raises(NotFound):
                await receipts_of(world, parent)


@check
async def a_rejection_is_shown_by_name_and_listed_by_filter(open):
    async with open() as world:
        await world.keep_rejected(callrail(body_of(1)), callrail(body_of(2)))
        listed = await world.rejected()
        for one in listed:
            assert await world.events.GetRejection(pb.GetRejectionRequest(name=one.name), None) == one
        foreign = pb.GetRejectionRequest(name=listed[0].name.replace("acme", "globex"))
        with pytest.raises(NotFound):
            await world.events.GetRejection(foreign, None)
        reason = listed[0].reason
        for filter_, count in (
            (f'reason = "{reason}" AND source = "s-1"', 2),
            (f'reason != "{reason}"', 0),
            ('source = "s-2"', 0),
            ('receive_time > "2020-01-01T00:00:00Z" AND event_type = post_call', 2),
        ):
            request = pb.ListRejectionsRequest(parent=PARENT, filter=filter_)
            assert len((await world.events.ListRejections(request, None)).rejections) == count, filter_
        for unknown in ("state = done", "reason > x"):
            with pytest.raises(InvalidArgument):
                await world.events.ListRejections(
                    pb.ListRejectionsRequest(parent=PARENT, filter=unknown), None
                )
        with pytest.raises(InvalidArgument):  # an event has no reason
            await world.events.ListDeadLetters(
                pb.ListDeadLettersRequest(parent=PARENT, filter="reason = x"), None
            )


@check
async def a_rejection_is_deleted_once(open):
    async with open() as world:
        await world.keep_rejected(callrail(body_of(1)), callrail(body_of(2)))
        _, first = await world.rejected()
        foreign = pb.DeleteRejectionRequest(name=first.name.replace("acme", "globex"))
        with pytest.raises(NotFound):
            await world.events.DeleteRejection(foreign, None)
        await world.events.DeleteRejection(pb.DeleteRejectionRequest(name=first.name), None)
        assert await world.rows(schema.rejections) == 1
        with pytest.raises(NotFound):
            await world.events.DeleteRejection(pb.DeleteRejectionRequest(name=first.name), None)


@check
async def a_list_has_the_warnings_and_a_story_its_receipts_whole(open):
    async with open() as world:
        name, other = await world.event(1), await world.event(2)
        await world.receipt(body_of(1))
        await world.admit()
        (job,) = [one for one in await world.claim() if one.event == name]
        await world.report(job, done=job_service_pb2.JobDone(), warnings=["TRUNCATED: 3 of 9 s"])
        told = await world.show(name)
        assert [list(one.warnings) for one in await world.listed()] == [[], ["TRUNCATED: 3 of 9 s"]]
        assert list(told.warnings) == ["TRUNCATED: 3 of 9 s"]
        assert not (await world.show(other)).warnings
        assert len(told.receipts) == 2
        for one in told.receipts:
            assert one == await receipt(world, one.receipt_id)
            assert (one.state, one.event) == (event_pb2.RECEIPT_STATE_EVENT, name)
