"""Checks of what is done with events: jobs under leases, lists, replays, accepting and purging."""

from __future__ import annotations

import asyncio

import pytest
from gateway_conformance import check
from gateway_deliveries import callrail
from gateway_world import PARENT, body_of
from google.protobuf.duration_pb2 import Duration
from trunkline.gateway.v1 import event_pb2, replay_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.gateway.v1 import job_service_pb2 as jobs_pb
from trunkline_gateway import schema
from trunkline_gateway.jobs.burials import Burials
from trunkline_runtime.errors import FailedPrecondition, Internal, NotFound

DEAD = event_pb2.EVENT_STATE_DEAD_LETTER
WRONG = "not-the-secret"


@check
async def a_job_is_led_through_its_stages_under_its_lease(open):
    async with open() as world:
        name = await world.event(1)
        (job,) = await world.claim()
        assert (job.event, job.body, job.stage, job.attempts) == (name, body_of(1), "normalise", 1)
        assert await world.claim(worker="w2") == []
        made = {"normalise": "tenants/acme/calls/c1"}
        await world.report(job, advance=jobs_pb.JobAdvance(next_stage="transcribe"), checkpoint=made)
        await world.report(job, retry=jobs_pb.JobRetry(delay=Duration(seconds=5), error="it failed"))
        assert await world.claim() == []
        world.clock.advance(5)
        (again,) = await world.claim()
        assert (again.stage, again.attempts, dict(again.checkpoint)) == ("transcribe", 2, made)
        assert await world.report(job, done=jobs_pb.JobDone()) == [job.job_id], "its lease is lost"
        lease = jobs_pb.Lease(
            job_id=again.job_id, lease_token=again.lease_token, tenant=again.event.rsplit("/", 2)[0]
        )
        renew = jobs_pb.RenewLeasesRequest(leases=[lease], lease=Duration(seconds=60))
        assert list((await world.jobs.RenewLeases(renew, None)).lost_job_ids) == []
        await world.finish(again)
        event = await world.show(name)
        assert (event.state, event.call) == (event_pb2.EVENT_STATE_DONE, made["normalise"])
        assert [attempt.outcome for attempt in event.history] == ["ok", "retry", "ok"]


@check
async def a_lease_that_ran_out_or_was_given_back_is_claimed_again(open):
    async with open() as world:
        await world.event(1)
        (job,) = await world.claim()
        world.clock.advance(31)
        (again,) = await world.claim(worker="w2")
        assert again.lease_token == job.lease_token + 1
        await world.jobs.ReleaseLeases(jobs_pb.ReleaseLeasesRequest(worker="w2"), None)
        (third,) = await world.claim(worker="w3")
        assert third.attempts == again.attempts


@check
async def the_call_of_a_job_that_a_claim_buried_is_told_until_it_hears(open):
    async with open() as world:
        told, down = [], [True]

        async def tell(request):
            if down:
                raise Internal("not now")
            told.append((request.name, request.event))

        name = await world.event(1)
        (job,) = await world.claim()
        made = {"normalise": "tenants/acme/calls/c1"}
        await world.report(job, advance=jobs_pb.JobAdvance(next_stage="analyse"), checkpoint=made)
        world.clock.advance(31)
        while await world.claim():
            world.clock.advance(31)
        burials = Burials(world.db, world.queue, tell)
        await burials.tell()
        down.clear()
        await burials.tell()
        assert told == [], "it is not due yet"
        world.clock.advance(2)
        await burials.tell()
        await burials.tell()
        assert told == [(made["normalise"], name)]


@check
async def workers_that_claim_at_once_never_hold_one_job(open):
    async with open() as world:
        for number in range(24):
            await world.receipt(body_of(number))
        await world.admit()
        claims = await asyncio.gather(*(world.claim(5, f"w{n}") for n in range(6)))
        held = [job.job_id for claim in claims for job in claim]
        assert len(held) == len(set(held)) == 24


@check
async def lists_page_through_everything_once_while_more_comes(open):
    async with open() as world:
        for number in range(7):
            await world.event(number)
        names, token = [], ""
        while True:
            request = pb.ListEventsRequest(parent=PARENT, page_size=3, page_token=token)
            page = await world.events.ListEvents(request, None)
            names += [event.name for event in page.events]
            token = page.next_page_token
            if not token:
                break
            await world.event(100 + len(names))
        assert len(names) == len(set(names)) == 7
        assert len(await world.listed("event_type = post_call")) > 7
        assert await world.listed("event_type = pre_call") == []
        assert await world.listed('receive_time > "2027-01-01T00:00:00Z"') == []
        assert await world.listed(parent="tenants/globex") == []
        with pytest.raises(NotFound):
            await world.show(names[0].replace("acme", "globex"))


@check
async def dead_letters_are_listed_the_latest_buried_first(open):
    async with open() as world:
        names = [await world.dead(number) for number in range(3)]
        await world.done(9)
        request = pb.ListDeadLettersRequest(parent=PARENT, page_size=2)
        first = await world.events.ListDeadLetters(request, None)
        request.page_token = first.next_page_token
        second = await world.events.ListDeadLetters(request, None)
        assert [event.name for event in (*first.events, *second.events)] == names[::-1]


@check
async def an_event_is_replayed_where_it_stopped_or_by_force_anew(open):
    async with open() as world:
        dead, done = await world.dead(1), await world.done(2)
        with pytest.raises(FailedPrecondition):
            await world.replay(done)
        for _ in range(2):
            assert (await world.replay(dead)).generation == 0
            assert (await world.replay(done, force=True, generation=0)).generation == 1
        assert len(await world.claim()) == 2


@check
async def many_are_replayed_at_their_rate_and_none_twice(open):
    async with open() as world:
        for number in range(9):
            await world.receipt(body_of(number))
        await world.admit()
        for job in await world.claim():
            await world.bury(job)
        dry = await world.replay_all(dry_run=True)
        assert (dry.event_count, len(dry.sample)) == (9, 9)
        started = await world.replay_all(rate_per_second=8, request_id="r-1")
        await world.work()
        await world.work()
        assert len(await world.listed("state = waiting")) == 4
        for job in await world.claim():
            await world.bury(job, "again")
        for _ in range(3):
            world.clock.advance(1)
            await world.work()
        ended = await world.events.GetReplay(pb.GetReplayRequest(name=started.name), None)
        assert (ended.state, ended.replayed_count) == (replay_pb2.REPLAY_STATE_DONE, 9)
        assert len(await world.listed("state = waiting")) == 5
        assert (await world.replay_all(rate_per_second=8, request_id="r-1")).name == started.name


@check
async def rejections_are_bounded_and_those_that_verify_are_accepted_once(open):
    async with open() as world:
        for start in (0, 20, 40):
            await world.keep_rejected(*(callrail(body_of(number)) for number in range(start, start + 20)))
        await world.keep_rejected(callrail(body_of(60), WRONG))
        kept = await world.rejected()
        assert len(kept) == 50, "the latest of a source"
        accept = pb.AcceptRejectionRequest(name=kept[1].name)
        told = await asyncio.gather(
            *(world.events.AcceptRejection(accept, None) for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(answer).__name__ for answer in told) == [
            "AcceptRejectionResponse",
            "NotFound",
            "NotFound",
        ]
        request = pb.AcceptRejectionsRequest(parent=PARENT, dry_run=True)
        dry = await world.events.AcceptRejections(request, None)
        assert (dry.accepted_count, dry.rejected_count) == (48, 1)
        request.dry_run = False
        made = await world.events.AcceptRejections(request, None)
        assert (made.accepted_count, made.rejected_count) == (48, 1)
        await world.admit()
        assert len(await world.listed()) == 49
        assert len(await world.rejected()) == 1


@check
async def a_purge_counts_then_deletes_what_ended(open):
    async with open() as world:
        dead, done = await world.dead(1), await world.done(2)
        await asyncio.gather(*(world.receipt(body_of(2)) for _ in range(200)))
        waiting = await world.event(3)
        request = pb.PurgeEventsRequest(parent=PARENT, filter="event_type = post_call")
        found = await world.events.PurgeEvents(request, None)
        assert (found.purge_count, list(found.purge_sample)) == (2, [dead, done])
        request.force = True
        assert (await world.events.PurgeEvents(request, None)).purge_count == 2
        assert [event.name for event in await world.listed()] == [waiting]
        for table in (schema.receipts, schema.event_receipts, schema.jobs, schema.events):
            assert await world.rows(table) == 1, table.name
        assert await world.event(2) == done, "what comes again is new"
