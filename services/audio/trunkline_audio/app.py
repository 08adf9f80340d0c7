"""Wires the audio service together: the one place where its parts meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from google.longrunning import operations_pb2_grpc
from trunkline.audio.v1 import (
    admin_service_pb2_grpc,
    audio_feature_service_pb2_grpc,
    recording_service_pb2_grpc,
    transcription_service_pb2_grpc,
    upload_service_pb2_grpc,
)
from trunkline_jobs import Queue
from trunkline_jobs.operations import OperationRunner, Operations, OperationsServicer
from trunkline_jobs.tasks import TaskRunner, Tasks
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.account import TELL_SECONDS, Account, Budgets, Teller
from trunkline_runtime.engines.base import attended
from trunkline_runtime.identity.links import LinkSigner
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.periodic import every
from trunkline_runtime.rpc import operations as served
from trunkline_runtime.rpc.authenticator import Authenticator
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.rpc.waiting import opened
from trunkline_store import MAY_PASS, NEVER_PASS, Clock, Database
from trunkline_store.records.outbox import Outbox

from trunkline_audio import schema
from trunkline_audio.admin_service import AdminServicer
from trunkline_audio.config import AudioConfig
from trunkline_audio.engines.base import SpeechEngine
from trunkline_audio.engines.chain import EngineChain
from trunkline_audio.engines.loader import load_engines
from trunkline_audio.features.service import AudioFeatureServicer
from trunkline_audio.media.addresses import AddressPolicy
from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.media.blobs.loader import load_blobs
from trunkline_audio.media.fetch import Fetcher, FetchLimits
from trunkline_audio.media.preparation import PrepareLimits, Preparer
from trunkline_audio.recordings.deletion_notice import (
    Forget,
    ForgetTranscript,
    deletion_notice,
    transcript_notice,
)
from trunkline_audio.recordings.downloads import Downloads
from trunkline_audio.recordings.plans import AskPlan, plans
from trunkline_audio.recordings.probe import Probe
from trunkline_audio.recordings.quota import RecordingsQuota
from trunkline_audio.recordings.receiver import RecordingReceiver
from trunkline_audio.recordings.rows import Recordings
from trunkline_audio.recordings.service import RecordingServicer
from trunkline_audio.recordings.uploads.rows import Uploads
from trunkline_audio.recordings.uploads.service import UploadServicer
from trunkline_audio.recordings.uploads.uploader import Uploader, UploadLimits
from trunkline_audio.retention import Sweeper
from trunkline_audio.transcripts.improvement import Improvement
from trunkline_audio.transcripts.operations import KIND as TRANSCRIBE
from trunkline_audio.transcripts.operations import BesideTranscriptions, transcribing
from trunkline_audio.transcripts.refusals import Refusals
from trunkline_audio.transcripts.results import Results
from trunkline_audio.transcripts.rows import Transcripts
from trunkline_audio.transcripts.service import TranscriptionServicer
from trunkline_audio.transcripts.transcriber import Transcriber
from trunkline_audio.transcripts.watch import TranscriptionWatch
from trunkline_audio.waiting import LOOK_SECONDS, WaitingSound
from trunkline_audio.workers.pool import WorkerPool

PREPARE = "trunkline_audio.media.preprocess.prepare:handler"


@dataclass(frozen=True, slots=True)
class AudioParts:
    """The parts, wired, and the engine warming up. Nothing listens, and no decoder runs, before `running`."""

    config: AudioConfig
    pace: Pace
    db: Database
    server: Server
    engines: Mapping[str, SpeechEngine]
    preparer: Preparer
    blobs: Blobs
    sweeper: Sweeper
    runner: OperationRunner
    tasks: TaskRunner
    waiting: WaitingSound
    outbox: Outbox
    teller: Teller

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        """Serve while the block lasts. Raises ConfigError.

        The port opens before the decoders are warm: calls wait for them, and health follows should they fail to
        start. The service serves without its engine, whose own requests wait.
        """
        sweeping = every(self.config.sweep_seconds, "retention", self.sweeper.sweep, sleep=self.pace.sleep)
        looking = every(LOOK_SECONDS, "waiting_sound", self.waiting.look, sleep=self.pace.sleep)
        telling = every(TELL_SECONDS, "charges", self._tell, sleep=self.pace.sleep)
        self.preparer.start()  # which empties the scratch folder: before anything is written there
        async with self.server.running(
            sweeping, looking, telling, self.runner.run(), self.tasks.run()
        ) as server:
            yield server

    async def _tell(self) -> None:
        await self.outbox.deliver(self.teller.tell, self.teller.failed)


@asynccontextmanager
async def build(
    config: AudioConfig,
    *,
    clock: Clock | None = None,
    pace: Pace = MACHINE,
    decoders: WorkerPool | None = None,
    engines: Mapping[str, SpeechEngine] | None = None,
    authenticator: Authenticator | None = None,
    forget: Forget | None = None,
    plan_of: AskPlan | None = None,
    forget_transcript: ForgetTranscript | None = None,
) -> AsyncIterator[AudioParts]:
    """Open the store and wire the parts; what was opened is closed in reverse at the end of the block.

    `decoders` are its own by default. `engines` are by their names in the setting, the preferred one first. `forget`
    and `forget_transcript` are told of what is deleted. `plan_of` is asked what a tenant may upload, and how it wants
    its recordings transcribed. Raises ConfigError, StoreError, StoppedWaiting.
    """
    speech = engines or load_engines(config, config.scratch_folder)
    preparer = Preparer(
        decoders or WorkerPool(PREPARE, size=config.decoders, name="decoder"),
        config.scratch_folder,
        _prepare_limits(config),
    )
    signer = TokenSigner(config.keys, "audio")
    server = Server(
        config,
        service="audio",
        signer=signer,
        authenticator=authenticator,
        stream_seconds=config.upload_seconds,
    )
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(
            await opened(
                lambda: _open(config, clock),
                MAY_PASS,
                config,
                service="audio",
                signer=signer,
                refused=NEVER_PASS,
            )
        )
        for engine in speech.values():
            await stack.enter_async_context(attended(engine, server.health))
        blobs = await stack.enter_async_context(
            load_blobs(config.blobs, config.blobs_folder, config.scratch_folder)
        )
        channels = Channels.of(config, signer)
        stack.push_async_callback(channels.close)
        stack.push_async_callback(preparer.close)
        forget = forget or deletion_notice(channels, config.tenant_address)
        plan_of = plan_of or plans(channels, config.tenant_address)
        forget_transcript = forget_transcript or transcript_notice(channels, config.tenant_address)
        queue = Queue(db, schema.jobs)
        outbox, teller = Outbox(db, schema.charges), Teller(channels, config.tenant_address)
        account = Account(Budgets(channels, config.tenant_address))
        account.keep = outbox.keep
        ground = _Ground(config, pace, db, blobs, preparer, server, stack)
        uploads = _recordings(ground, forget, plan_of)
        operations, runner, improving = _transcripts(
            ground, speech, forget_transcript, plan_of, queue, account
        )
        server.add(
            admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
            AdminServicer(db, blobs, uploads),
            "trunkline.audio.v1.AdminService",
        )

        async def store_answers() -> bool:
            await db.check()
            return True

        async def decoders_ready() -> bool:
            return preparer.ready

        server.health.depend("store", store_answers, at_drain=db.hurry)
        server.health.depend("decoders", decoders_ready)
        sweeper = Sweeper(db, blobs, forget, operations, uploads, recordings_age=_age(config))
        waiting = WaitingSound(db, queue)
        yield AudioParts(
            config,
            pace,
            db,
            server,
            speech,
            preparer,
            blobs,
            sweeper,
            runner,
            improving,
            waiting,
            outbox,
            teller,
        )


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all parts of the service stand on; `stack` closes what is pushed on it, the latest first."""

    config: AudioConfig
    pace: Pace
    db: Database
    blobs: Blobs
    preparer: Preparer
    server: Server
    stack: AsyncExitStack


def _recordings(ground: _Ground, forget: Forget, plan_of: AskPlan) -> Uploads:
    """Wire and serve what takes recordings in and gives them out; return their uploads."""
    config, db, blobs, pace = ground.config, ground.db, ground.blobs, ground.pace
    recordings = Recordings(db, config.list_staleness)
    uploads = Uploads(db, config.uploads_open)
    quota, probe = RecordingsQuota(recordings.bytes_of, uploads.bytes_of), Probe(blobs, ground.preparer)
    fetcher = Fetcher(_policy(config), _fetch_limits(config))
    ground.stack.callback(fetcher.close)
    receiver = RecordingReceiver(
        recordings=recordings,
        blobs=blobs,
        fetcher=fetcher,
        probe=probe,
        quota=quota,
        clock=db.clock,
        at_once=config.fetches_at_once,
        keep_days=config.recordings_days,
        pace=pace,
    )
    ground.stack.push_async_callback(receiver.close)
    uploader = Uploader(
        uploads=uploads,
        recordings=recordings,
        blobs=blobs,
        probe=probe,
        quota=quota,
        plan_of=plan_of,
        clock=db.clock,
        limits=_upload_limits(config),
        keep_days=config.recordings_days,
        pace=pace,
    )
    ground.stack.push_async_callback(uploader.close)
    downloads = Downloads(
        recordings, blobs, LinkSigner(config.keys, "audio"), db.clock, config.downloads_at_once
    )
    ground.server.add(
        recording_service_pb2_grpc.add_RecordingServiceServicer_to_server,
        RecordingServicer(recordings, receiver, blobs, forget, uploader, downloads),
        "trunkline.audio.v1.RecordingService",
    )
    ground.server.add(
        upload_service_pb2_grpc.add_UploadServiceServicer_to_server,
        UploadServicer(uploader),
        "trunkline.audio.v1.UploadService",
    )
    return uploads


def _transcripts(
    ground: _Ground,
    engines: Mapping[str, SpeechEngine],
    forget: ForgetTranscript,
    plan_of: AskPlan,
    queue: Queue,
    account: Account,
) -> tuple[Operations, OperationRunner, TaskRunner]:
    """Wire and serve what makes and shows transcripts; return its operations, and what works on them and on tasks."""
    config, db, server, pace = ground.config, ground.db, ground.server, ground.pace
    transcripts = Transcripts(db, config.list_staleness)
    tasks = Tasks(db, schema.tasks)
    improvement = Improvement(db, tasks, transcripts, engines, config.degraded_retry_seconds)
    transcriber = Transcriber(
        transcripts=transcripts,
        results=Results(db, queue.now, pace=pace),
        refusals=Refusals(db),
        blobs=ground.blobs,
        preparer=ground.preparer,
        engines=_chain(config, engines),
        clock=db.clock,
        at_once=config.transcriptions_at_once,
        keep_days=config.transcripts_days,
        pace=pace,
        degraded=improvement.begin,
        account=account,
    )
    ground.stack.push_async_callback(transcriber.close)
    improving = TaskRunner(tasks, [improvement.kind(transcriber)], pace=pace)
    keep = timedelta(days=config.operations_days)
    operations = Operations(
        db, schema.operations, queue, service="audio", keep=keep, list_staleness=config.list_staleness
    )
    operations.keep_beside(TRANSCRIBE, BesideTranscriptions(db, engines.values()))
    runner = OperationRunner(
        operations,
        [transcribing(transcriber, db, keep, pace)],
        slots=config.transcriptions_at_once,
        stopping=server.stopping,
        pace=pace,
    )
    ground.stack.push_async_callback(runner.close)
    watch = TranscriptionWatch(db, operations, server.stopping, at_once=config.watchers_at_once)
    server.add(
        transcription_service_pb2_grpc.add_TranscriptionServiceServicer_to_server,
        TranscriptionServicer(transcripts, transcriber, operations, watch, forget, plan_of, db.clock),
        "trunkline.audio.v1.TranscriptionService",
    )
    server.add(
        audio_feature_service_pb2_grpc.add_AudioFeatureServiceServicer_to_server,
        AudioFeatureServicer(transcripts),
        "trunkline.audio.v1.AudioFeatureService",
    )
    server.add(
        operations_pb2_grpc.add_OperationsServicer_to_server,
        OperationsServicer(operations, server.stopping),
        served.SERVICE,
    )
    return operations, runner, improving


async def serve(config: AudioConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError, StoreError, StoppedWaiting."""
    async with build(config) as parts, parts.running() as server:
        await server.serve_until_stopped()


async def _open(config: AudioConfig, clock: Clock | None) -> Database:
    return await Database.open(
        config.store_url,
        schema.metadata,
        migrations="trunkline_audio.migrations",
        readers=config.readers,
        clock=clock,
    )


def _chain(config: AudioConfig, engines: Mapping[str, SpeechEngine]) -> EngineChain:
    return EngineChain(
        engines,
        failures=config.engine_failures,
        rest_seconds=config.engine_rest_seconds,
        patience_seconds=config.engine_patience_seconds,
    )


def _age(config: AudioConfig) -> timedelta | None:
    days = config.blobs.delete_days
    return timedelta(days=days) if days else None


def _policy(config: AudioConfig) -> AddressPolicy:
    try:
        return AddressPolicy(config.fetch_allowed_networks)
    except ValueError as error:
        raise ConfigError(f"TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS: {error}") from None


def _fetch_limits(config: AudioConfig) -> FetchLimits:
    return FetchLimits(
        max_bytes=config.fetch_max_bytes,
        total_seconds=config.fetch_seconds,
        connect_seconds=config.fetch_connect_seconds,
        read_seconds=config.fetch_read_seconds,
        at_once=config.fetches_at_once,
    )


def _upload_limits(config: AudioConfig) -> UploadLimits:
    return UploadLimits(
        max_bytes=config.upload_max_bytes,
        at_once=config.uploads_at_once,
        stream_seconds=config.upload_seconds,
        keep_seconds=config.upload_hours * 3600,
    )


def _prepare_limits(config: AudioConfig) -> PrepareLimits:
    return PrepareLimits(
        max_seconds=config.decode_max_seconds,
        cpu_seconds=config.decode_cpu_seconds,
        wall_seconds=config.decode_cpu_seconds * 2.0,
        memory_bytes=config.decode_memory_bytes,
    )
