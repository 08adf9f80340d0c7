"""The gateway over a real store, from receipts to a worker's reports, without sockets."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from gateway_sources import Feed, resolved
from google.protobuf.duration_pb2 import Duration
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.gateway.v1 import job_service_pb2 as jobs_pb
from trunkline_gateway import schema
from trunkline_gateway.events.acceptance import Acceptance
from trunkline_gateway.events.rejections import Rejections
from trunkline_gateway.events.replays import Replays
from trunkline_gateway.events.service import EventService
from trunkline_gateway.hooks import verdicts
from trunkline_gateway.hooks.sources import SourceMap, source_of
from trunkline_gateway.hooks.unverified import Unverified
from trunkline_gateway.intake.admission import Admission
from trunkline_gateway.jobs.service import JobService
from trunkline_gateway.jobs.shares import Shares
from trunkline_jobs import Queue
from trunkline_store import Database, FakeClock

from tests.integration.migrated_file import migrated_file

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PARENT = "tenants/acme"
BASE = "https://hooks.example.com"
MIGRATIONS = "trunkline_gateway.migrations"


def body_of(number):
    return json.dumps({"id": number, "timestamp": "2026-11-20T07:00:00Z"}).encode()


class World:
    def __init__(self, db, clock, *sources):
        self.db, self.clock = db, clock
        self.feed = Feed(*(sources or [resolved()]))
        self.sources = SourceMap(self.feed, None, rest_seconds=0)
        self.queue = Queue(db, schema.jobs)
        self.jobs = JobService(db, self.queue, Shares(contended_share=1))
        self.rejections = Rejections(db, keep_per_source=50)
        self.unverified = Unverified(10_000, 1 << 30)
        self.admission = self.new_admission()
        self.replays = Replays(db, self.queue, self.jobs.jobs_ready)
        acceptance = Acceptance(db, self.sources, self.admission.soon, BASE)
        self.events = EventService(db, self.queue, self.replays, acceptance, self.jobs.jobs_ready)
        self.inbox = db.appender(schema.receipts)
        self.receipts = 0

    def new_admission(self, **settings):
        return Admission(
            self.db, self.queue, self.sources, keep_rejections=50, jobs_ready=self.jobs.jobs_ready,
            unverified=self.unverified, **{"base_url": BASE, **settings},
        )  # fmt: skip

    async def receipt(self, body, event_type="post_call", source="s-1", tenant="acme", **fields):
        self.clock.advance(0.001)
        self.receipts += 1
        row = {
            "receipt_id": f"{self.receipts:032x}", "source_id": source, "tenant_id": tenant,
            "event_type": event_type, "received_at": self.clock.now(), "verdict": verdicts.VERIFIED,
            "content_type": "application/json", "url": "", "headers": b"", "body": body, **fields,
        }  # fmt: skip
        await self.inbox.append(tuple(row.values()))

    async def event(self, number, **fields):
        """Receive one and admit it; its name."""
        await self.receipt(body_of(number), **fields)
        await self.admit()
        tenant = fields.get("tenant", "acme")
        request = pb.ListEventsRequest(parent=f"tenants/{tenant}", page_size=1)
        return (await self.events.ListEvents(request, None)).events[0].name

    async def admit(self):
        while await self.admission.step():
            pass

    async def claim(self, limit=100, worker="w1"):
        request = jobs_pb.ClaimJobsRequest(worker=worker, limit=limit, lease=Duration(seconds=30))
        return (await self.jobs.ClaimJobs(request, None)).jobs

    async def report(self, job, **outcome):
        lease = jobs_pb.Lease(job_id=job.job_id, lease_token=job.lease_token)
        report = jobs_pb.JobReport(lease=lease, stage=job.stage, **outcome)
        answer = await self.jobs.ReportJobs(jobs_pb.ReportJobsRequest(worker="w1", reports=[report]), None)
        return list(answer.lost_job_ids)

    async def bury(self, job, error="it failed"):
        assert await self.report(job, dead=jobs_pb.JobDead(error=error)) == []

    async def finish(self, job, call=""):
        assert await self.report(job, done=jobs_pb.JobDone(call=call)) == []

    async def dead(self, number, **fields):
        name = await self.event(number, **fields)
        (job,) = await self.claim()
        await self.bury(job)
        return name

    async def done(self, number, **fields):
        name = await self.event(number, **fields)
        (job,) = await self.claim()
        await self.finish(job)
        return name

    async def show(self, name):
        return await self.events.GetEvent(pb.GetEventRequest(name=name), None)

    async def listed(self, filter="", parent=PARENT):
        request = pb.ListEventsRequest(parent=parent, filter=filter, page_size=500)
        return (await self.events.ListEvents(request, None)).events

    async def replay(self, name, **fields):
        return await self.events.ReplayEvent(pb.ReplayEventRequest(name=name, **fields), None)

    async def replay_all(self, parent=PARENT, **fields):
        return await self.events.ReplayEvents(pb.ReplayEventsRequest(parent=parent, **fields), None)

    async def rejected(self, parent=PARENT):
        request = pb.ListRejectionsRequest(parent=parent, page_size=500)
        return (await self.events.ListRejections(request, None)).rejections

    async def keep_rejected(self, *deliveries, source=None):
        """Keep requests as rejected now, a second apart."""
        for delivery in deliveries:
            self.clock.advance(1)
            delivery = replace(delivery, received=self.clock.now())
            self.rejections.keep(source_of(source or resolved()), "post_call", delivery, "wrong")
        await self.rejections.flush()

    async def rows(self, table):
        return await self.db.read(
            lambda conn: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        )


async def new_file(folder):
    """The URL of an empty file, migrated; one that is there already stays as it is."""
    return await migrated_file(Path(folder) / "gateway.db", schema.metadata, MIGRATIONS)


@asynccontextmanager
async def opened(folder, *sources, url=None):
    """Open a database, by default a file in the folder; one on Spanner must have been migrated."""
    clock = FakeClock(NOW)
    url = url or await new_file(folder)
    async with await Database.open(url, schema.metadata, migrations=MIGRATIONS, clock=clock) as db:
        yield World(db, clock, *sources)
