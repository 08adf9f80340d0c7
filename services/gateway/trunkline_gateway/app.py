"""The wiring of the role `serve`: the one place where its parts meet. `servers.py` is what they are served through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection
from trunkline_jobs import Depths, Queue, TaskKind, TaskRunner, Tasks
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import disks
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.periodic import every
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.waiting import opened
from trunkline_store import MAY_PASS, NEVER_PASS, Clock, Database

from trunkline_gateway import schema
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.events.acceptance import READ_BYTES, Acceptance
from trunkline_gateway.events.call_deletion import DELETE_CALL, DELETE_CALLER, CallDeletions
from trunkline_gateway.events.progress import TellCall, telling
from trunkline_gateway.events.replays import REPLAY, Replays
from trunkline_gateway.events.retention import SWEEP, sweep
from trunkline_gateway.events.service import EventService
from trunkline_gateway.events.tenant_deletion import PURGE, Deletions
from trunkline_gateway.hooks.encodings import OPENED_BYTES
from trunkline_gateway.hooks.limits import Limits
from trunkline_gateway.hooks.receiver import Receiver
from trunkline_gateway.hooks.source_cache import SourceCache
from trunkline_gateway.hooks.source_feed import TenantFeed
from trunkline_gateway.hooks.sources import SourceFeed, SourceMap
from trunkline_gateway.hooks.traffic import Traffic
from trunkline_gateway.intake.admission import Admission
from trunkline_gateway.intake.batches import Batches
from trunkline_gateway.intake.inbox import SpoolingInbox
from trunkline_gateway.intake.kept import REFRESH_SECONDS, Kept
from trunkline_gateway.intake.outcomes import UNDECIDED
from trunkline_gateway.intake.rejections import Rejections
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.intake.stored import Stored
from trunkline_gateway.jobs.burials import TELL_SECONDS, Burials
from trunkline_gateway.jobs.depth import LOOK_SECONDS, DepthGauges
from trunkline_gateway.jobs.service import JobService
from trunkline_gateway.jobs.shares import Shares
from trunkline_gateway.receipts import Fresh
from trunkline_gateway.standby import standing_by


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """The parts, wired. Nothing listens, no loop runs and the spool is closed (`inbox.open`) until somebody begins."""

    config: GatewayConfig
    pace: Pace
    signer: TokenSigner
    channels: Channels
    db: Database
    queue: Queue
    sources: SourceMap
    kept: Kept
    limits: Limits
    jobs: JobService
    burials: Burials
    depth: DepthGauges
    rejections: Rejections
    admission: Admission
    inbox: SpoolingInbox
    receiver: Receiver
    replays: Replays
    events: EventService
    deletions: Deletions
    call_deletions: CallDeletions
    tasks: TaskRunner

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs for as long as the gateway serves."""
        config, sleep = self.config, self.pace.sleep
        return [
            self.sources.follow(sleep), self.sources.persist(sleep), self.admission.run(), self.rejections.run(),
            self.tasks.run(), self.inbox.watch(), self.inbox.recover(),
            every(REFRESH_SECONDS, "kept_bytes", self.kept.refresh, sleep=sleep),
            every(TELL_SECONDS, "burials", self.burials.tell, sleep=sleep),
            every(LOOK_SECONDS, "queue_depth", self.depth.look, sleep=sleep),
            every(config.deletions_seconds, "deletions", self.deletions.learn, sleep=sleep),
        ]  # fmt: skip


@asynccontextmanager
async def build(
    config: GatewayConfig,
    *,
    clock: Clock | None = None,
    pace: Pace = MACHINE,
    db: Database | None = None,
    feed: SourceFeed | None = None,
    tell_call: TellCall | None = None,
    make_jobs: Callable[[Database, Queue, Shares, Pace], JobService] = JobService,
    spool: Spool | None = None,
    batch: int = 0,
    read_bytes: int = READ_BYTES,
    opened_bytes: int = OPENED_BYTES,
) -> AsyncIterator[GatewayParts]:
    """Open the store and wire the parts; what was opened is closed in reverse at the end of the block.

    `db` is an open database, which stays open; without one the settings' own is opened and waited for. `feed` and
    `tell_call` stand in for the tenant service, `spool` for the settings' own; it is closed too. `batch` is as
    `admission_of` has it. So many bytes of rejected bodies are read at once, and so many of any are held opened.

    Raises ConfigError, StoreError, StoppedWaiting.
    """
    async with AsyncExitStack() as stack:
        signer = TokenSigner(config.keys, "gateway")
        channels = Channels.of(config, signer)
        stack.push_async_callback(channels.close)
        traffic = Traffic()
        sources = SourceMap(
            feed or TenantFeed(channels, config.tenant_address),
            SourceCache(config.source_cache, signer.secret()),
            gone=traffic.gone,
            now=pace.clock,
            rest_seconds=pace.interval("sources.rest", 1.0),
        )
        if db is None:
            db = await opened(
                lambda: _open(config, clock),
                MAY_PASS,
                config,
                service="gateway",
                signer=signer,
                refused=NEVER_PASS,
                meanwhile=lambda why: standing_by(config, sources, traffic, why),
            )
            stack.push_async_callback(db.close)
        tell = tell_call or telling(channels, config.tenant_address)
        queue = Queue(db, schema.jobs, shards=config.queue_shards)
        tasks = Tasks(db, schema.tasks)
        jobs = make_jobs(db, queue, _shares(config), pace)
        kept = Kept(db, sources.quotas_of)
        limits = Limits.of(config, pace.clock, kept)
        rejections = Rejections(
            db,
            config.keep_rejections,
            events_days=config.events_days,
            keep_bytes=config.keep_rejections_bytes,
            quotas_of=sources.quotas_of,
        )
        appender, fresh = db.appender(schema.receipts, max_rows=config.max_queued), Fresh()
        appender.tell(fresh.stored)
        admission = admission_of(
            config,
            db,
            queue,
            tasks,
            sources,
            limits,
            jobs.jobs_ready,
            batch=batch,
            fresh=fresh,
            opened_bytes=opened_bytes,
            pace=pace,
        )
        now = db.clock.now
        spool = spool or Spool(config.spool_folder(), config.spool_max_bytes)
        stack.push_async_callback(spool.close)
        inbox = SpoolingInbox(
            appender,
            Stored(db),
            spool,
            confirm_seconds=config.confirm_seconds,
            admit_soon=admission.soon,
            pace=pace,
        )
        receiver = Receiver.of(
            config,
            sources,
            inbox,
            rejections,
            limits,
            admission.soon,
            traffic=traffic,
            now=now,
            sleep=pace.sleep,
        )
        disks.show("spool", config.spool_folder())
        replays = Replays(db, queue, tasks, jobs.jobs_ready)
        events = EventService(
            db,
            queue,
            replays,
            Acceptance(
                db,
                sources,
                admission.soon,
                config.public_url,
                read_bytes=read_bytes,
                opened_bytes=opened_bytes,
            ),
            jobs.jobs_ready,
            list_staleness=config.list_staleness,
            quotas_of=sources.quotas_of,
            tell_call=tell,
        )
        deletions = Deletions(
            db,
            tasks,
            channels,
            tenant_address=config.tenant_address,
            audio_address=config.audio_address,
            ai_address=config.ai_address,
        )
        call_deletions = CallDeletions(
            db,
            tasks,
            channels,
            tenant_address=config.tenant_address,
            audio_address=config.audio_address,
            ai_address=config.ai_address,
        )

        async def swept(house: str, subject: str) -> float:
            await sweep(db)
            return config.sweep_seconds

        kinds = [
            TaskKind(name=REPLAY, work=replays.advance, slots=4, failed=replays.fail),
            TaskKind(name=PURGE, work=deletions.purge, slots=2),
            TaskKind(name=DELETE_CALL, work=call_deletions.delete_call, slots=2),
            TaskKind(name=DELETE_CALLER, work=call_deletions.delete_caller),
            TaskKind(name=UNDECIDED, work=admission.look_again, is_over=admission.none_undecided),
            TaskKind(name=SWEEP, work=swept),
        ]

        def begin(conn: Connection) -> None:
            """Have swept, and done what an earlier release left without a task."""
            for kind in (SWEEP, UNDECIDED):
                tasks.put(conn, kind)
            replays.resume(conn)

        yield GatewayParts(
            config, pace, signer, channels, db, queue, sources, kept, limits, jobs, Burials(db, queue, tell),
            DepthGauges(db, queue, Depths(schema.jobs, shards=config.queue_shards)),
            rejections, admission, inbox, receiver, replays, events, deletions, call_deletions,
            TaskRunner(tasks, kinds, begin, pace=pace),
        )  # fmt: skip


def admission_of(
    config: GatewayConfig,
    db: Database,
    queue: Queue,
    tasks: Tasks,
    sources: SourceMap,
    limits: Limits,
    jobs_ready: Callable[[AbstractSet[str]], None],
    *,
    batch: int = 0,
    fresh: Fresh | None = None,
    opened_bytes: int = OPENED_BYTES,
    pace: Pace = MACHINE,
) -> Admission:
    """Make an admission as the settings say; several over one store are as many processes.

    `batch` is how many receipts are admitted at once, at most; 0 leaves it to what presses on the store. `fresh` is
    told of receipts as they are committed. So many bytes of opened bodies are held at once.
    """
    return Admission(
        db,
        queue,
        tasks,
        sources,
        limits,
        keep_rejections=config.keep_rejections,
        keep_rejections_bytes=config.keep_rejections_bytes,
        events_days=config.events_days,
        base_url=config.public_url,
        jobs_ready=jobs_ready,
        batches=Batches.of(batch) if batch else None,
        fresh=fresh,
        opened_bytes=opened_bytes,
        pace=pace,
    )


async def _open(config: GatewayConfig, clock: Clock | None) -> Database:
    return await Database.open(
        config.store_url,
        schema.metadata,
        migrations="trunkline_gateway.migrations",
        readers=config.readers,
        clock=clock,
    )


def _shares(config: GatewayConfig) -> Shares:
    return Shares(
        tenant_in_flight=config.tenant_in_flight,
        contended_share=config.contended_share,
        reserved_share=config.reserved_share,
        quiet_in_flight=config.quiet_in_flight,
    )
