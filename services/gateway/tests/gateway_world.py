"""The gateway over a real store, from receipts to a worker's reports, without sockets."""

from __future__ import annotations

import asyncio
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
from trunkline_gateway.app import admission_of, build
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.receipts import VERIFIED
from trunkline_jobs import Tasks
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_store import Database, FakeClock

from tests.integration.migrated_file import migrated_file

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PARENT = "tenants/acme"
BASE = "https://hooks.example.com"
MIGRATIONS = "trunkline_gateway.migrations"


def body_of(number):
    return json.dumps({"id": number, "timestamp": "2026-11-20T07:00:00Z"}).encode()


def make_config(folder, **settings):
    """Settings under which everything is kept and one tenant may have all the slots."""
    return GatewayConfig(
        **{
            "keys": KEY_FOLDER, "grpc_address": "127.0.0.1:0", "metrics_address": "", "public_url": BASE,
            "source_cache": Path(folder) / "gateway.sources", "spool_path": Path(folder) / "gateway.spool",
            "list_staleness_seconds": 0.0, "keep_rejections": 50, "events_days": 0, "contended_share": 1.0,
            "max_unverified_bytes": 1 << 30, **settings,
        }
    )  # fmt: skip


async def nobody(request):
    """There is no tenant service to tell."""


class World:
    """The gateway as it is wired, with a test's way to send receipts and ask for what became of them."""

    def __init__(self, gateway, feed, clock):
        self.gateway, self.feed, self.clock = gateway, feed, clock
        self.db, self.queue, self.jobs, self.sources = (
            gateway.db,
            gateway.queue,
            gateway.jobs,
            gateway.sources,
        )
        self.rejections, self.events = gateway.rejections, gateway.events
        self.admission, self.unverified = gateway.admission, gateway.limits.unverified
        self.inbox = gateway.db.appender(schema.receipts)
        self.receipts = 0

    def new_admission(self, batch=256, **settings):
        """One more admission over the same store, as another process has it."""
        config, limits = replace(self.gateway.config, **settings), self.gateway.limits
        return admission_of(
            config,
            self.db,
            self.queue,
            Tasks(self.db, schema.tasks),
            self.sources,
            limits,
            self.jobs.jobs_ready,
            batch=batch,
            pace=_PACE,
        )

    async def receipt(self, body, event_type="post_call", source="s-1", tenant="acme", **fields):
        self.clock.advance(0.001)
        self.receipts += 1
        row = {
            "receipt_id": f"{self.receipts:032x}", "source_id": source, "tenant_id": tenant,
            "event_type": event_type, "received_at": self.clock.now(), "verdict": VERIFIED,
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

    async def work(self, runner=None):
        """Let the gateway's tasks do everything that is due by the clock."""
        stop = asyncio.Event()
        working = asyncio.create_task((runner or self.gateway.tasks).work_until(stop))
        async with asyncio.timeout(30):
            while await self.due():
                await asyncio.sleep(0.01)
        stop.set()
        await working

    async def due(self):
        """How many tasks are due by the clock, or under way."""
        c = schema.tasks.c
        now = sa.or_(c.visible_at <= self.clock.now(), c.lease_until.is_not(None))
        return await self.db.read(
            lambda conn: conn.execute(
                sa.select(sa.func.count()).select_from(schema.tasks).where(now)
            ).scalar_one()
        )

    async def claim(self, limit=100, worker="w1"):
        request = jobs_pb.ClaimJobsRequest(worker=worker, limit=limit, lease=Duration(seconds=30))
        return (await self.jobs.ClaimJobs(request, None)).jobs

    async def report(self, job, **outcome):
        lease = jobs_pb.Lease(
            job_id=job.job_id, lease_token=job.lease_token, tenant=job.event.rsplit("/", 2)[0]
        )
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


# A busy machine may take longer than the suite's own patience to ask a source's feed.
_PACE = Pace(intervals={"sources.rest": 0.0, "admission.patience": 10.0})


@asynccontextmanager
async def opened(folder, *sources, url=None, clock=None, tell_call=nobody, parts=None, **settings):
    """Wire a gateway over a database, by default a file in the folder; one on Spanner must have been migrated.

    `parts` are further arguments of `build`.
    """
    clock, feed = clock or FakeClock(NOW), Feed(*(sources or [resolved()]))
    config = make_config(folder, **settings)
    url = url or await new_file(folder)
    async with (
        await Database.open(url, schema.metadata, migrations=MIGRATIONS, clock=clock) as db,
        build(config, db=db, feed=feed, tell_call=tell_call, pace=_PACE, **(parts or {})) as gateway,
    ):
        yield World(gateway, feed, clock)


@asynccontextmanager
async def beside(world, folder, **settings):
    """Wire one more gateway over a world's store, as another process has it."""
    async with build(
        make_config(folder, **settings), db=world.db, feed=world.feed, tell_call=nobody, pace=_PACE
    ) as gateway:
        yield World(gateway, world.feed, world.clock)
