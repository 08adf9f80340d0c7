"""The suite's processes, wired from the production code over simulated stores and a simulated network."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from google.longrunning import operations_pb2
from trunkline.ai.v1 import analysis_pb2
from trunkline.audio.v1 import recording_pb2, transcript_pb2, transcription_service_pb2
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2, source_service_pb2
from trunkline_gateway import app as gateway_app
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.pipeline import app as worker_app
from trunkline_gateway.pipeline.clients import Clients
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_runtime.errors import NotFound, Unavailable
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_tenant.calls.service import CallService

from tests.simulation.ledger import WatchedJobs
from tests.simulation.store import SimDatabase, SpoolDisk

IN_FLIGHT = 2
LEASE_SECONDS = 4.0
_NOWHERE = Path("/nonexistent/simulation")
_GATEWAY = GatewayConfig(
    keys=KEY_FOLDER,
    public_url="http://gateway",
    source_cache=_NOWHERE / "sources",
    confirm_seconds=1.0,
    max_queued=50,
    max_body_bytes=1 << 20,
    max_unverified=100,
    max_unverified_bytes=1 << 30,
    keep_rejections=100,
    ceiling_per_second=1e9,
    ceiling_burst=1e9,
    tenant_bytes_per_second=1e12,
    tenant_bytes_burst=1e12,
    events_days=0,
    tenant_in_flight=IN_FLIGHT,
    list_staleness_seconds=0.0,
)
# A retry that is due by time alone is looked for less often, for speed.
_INTERVALS = {"jobs.look": 2.0, "inbox.look": 1.5}
_WORKER = WorkerConfig(
    keys=KEY_FOLDER,
    tenant_address="",
    worker_concurrency=3,
    lease_seconds=LEASE_SECONDS,
    claim_wait_seconds=6.0,
    checkpoint_after_seconds=0.2,
    source_seconds=5.0,
    breaker_failures=3,
    breaker_seconds=2.0,
    drain_seconds=4.0,
)


class Http:
    """The gateway's HTTP as a webhook's sender sees it: the real receiver under a minimal ASGI server."""

    def __init__(self, receiver):
        self._receiver = receiver

    async def post(self, webhook):
        """Return status and body."""
        path = "/" + webhook.url.split("/", 3)[3]
        headers = [(name.lower().encode(), value.encode()) for name, value in webhook.headers.items()]
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers,
        }  # fmt: skip
        answer = {}

        async def receive():
            return {"type": "http.request", "body": webhook.body, "more_body": False}

        async def send(message):
            answer.setdefault("status", message.get("status"))
            answer["body"] = message.get("body", b"")

        await self._receiver(scope, receive, send)
        return answer["status"], json.loads(answer["body"])


class Feed:
    """The tenant service's sources, asked over the wire."""

    def __init__(self, world, life):
        self._resolve = world.wire.method(life, world.tenant, "ResolveSource")
        self._world, self._life = world, life

    async def resolve(self, source_id):
        return await self._resolve(source_service_pb2.ResolveSourceRequest(source_id=source_id), timeout=2.0)

    async def watch(self, after_revision):
        known = self._world.tenant.life
        if not self._world.tenant.up:
            raise Unavailable("the tenant service is not there")
        for number, source in enumerate(self._world.sources.values(), 1):
            yield source_service_pb2.WatchSourcesResponse(revision=number, upserted=source)
        yield source_service_pb2.WatchSourcesResponse(revision=number, caught_up=True)
        while known.alive:
            await asyncio.sleep(5.0)
        raise Unavailable("the tenant service went away")


def _pace(world):
    return Pace(clock=world.loop.time, intervals=_INTERVALS)


async def _entered(world, parts):
    """Enter a wiring that nobody leaves: a process that is killed closes nothing."""
    stack = AsyncExitStack()
    world.unclosed.append(stack)
    return await stack.enter_async_context(parts)


async def _nobody(request):
    """Tell nobody: the calls of buried jobs are not looked at here."""


def gateway(world):
    """Role `serve`: receive, inbox and spool, admission, the queue."""

    async def build(life):
        if world.spool is not None:
            world.spool.log.close()  # as the kernel does for one that was killed
        world.spool = Spool(world.spool_folder, 1 << 20, SpoolDisk(life, world))

        def watched(*parts):
            return WatchedJobs(*parts).watch(world, world.ledger)

        parts = gateway_app.build(
            _GATEWAY,
            pace=_pace(world),
            db=SimDatabase(world.gateway_disk, life, world, "gateway"),
            feed=Feed(world, life),
            tell_call=_nobody,
            spool=world.spool,
            make_jobs=watched,
            batch=world.batch,
        )
        served = await _entered(world, parts)
        jobs = ("ClaimJobs", "RenewLeases", "ReportJobs", "ReleaseLeases")
        handlers = {
            "post": Http(served.receiver).post,
            **{name: _served(getattr(served.jobs, name)) for name in jobs},
        }

        async def with_spool():
            await served.inbox.open()
            await asyncio.gather(served.inbox.watch(), served.inbox.recover())

        return [served.admission.run(), served.tasks.run(), with_spool(), served.sources.follow()], handlers

    return build


def _served(method):
    async def handler(request):
        return await method(request, None)

    return handler


def worker(world, number):
    """Role `work`: the real worker and stages."""

    async def build(life):
        world.started += 1
        stop = asyncio.Event()
        world.stops[f"worker-{number}"] = stop

        def ask(target, name):
            return world.wire.method(life, target, name)

        class Jobs:
            ClaimJobs = staticmethod(ask(world.gateway, "ClaimJobs"))
            RenewLeases = staticmethod(ask(world.gateway, "RenewLeases"))
            ReportJobs = staticmethod(ask(world.gateway, "ReportJobs"))
            ReleaseLeases = staticmethod(ask(world.gateway, "ReleaseLeases"))

        def clients(breakers):
            return Clients(
                breakers,
                ask(world.tenant, "ResolveSource"),
                ask(world.tenant, "RecordCall"),
                ask(world.media, "FetchRecording"),
                ask(world.media, "CreateTranscript"),
                ask(world.media, "TranscribeRecording"),
                ask(world.media, "WaitOperation"),
                ask(world.media, "GetTranscript"),
                ask(world.media, "AnalyzeCall"),
                ask(world.tenant, "RecordCallState"),
            )

        parts = worker_app.build(
            _WORKER,
            name=f"worker-{number}-{world.started}",
            now=world.loop.wall,
            pace=_pace(world),
            jobs=Jobs(),
            make_clients=clients,
        )
        work = await _entered(world, parts)
        return [work.worker.run(stop)], {}

    return build


def tenant(world):
    """The tenant service: the real CallService; sources stand in a dict."""

    async def build(life):
        calls = CallService(SimDatabase(world.tenant_disk, life, world, "tenant"))

        async def resolve(request):
            source = world.sources.get(request.source_id)
            if source is None:
                raise NotFound(f"sources/{request.source_id}")
            return source

        return [], {
            "RecordCall": _served(calls.RecordCall),
            "RecordCallState": _served(calls.RecordCallState),
            "ResolveSource": resolve,
        }

    return build


def media(world):
    """Audio and ai: slow engines that create or get by the id that derives from the input."""

    async def build(life):
        async def fetch(request):
            name = f"{request.parent}/recordings/{request.recording_id}"
            if name not in world.recordings:
                await asyncio.sleep(world.faults.stage())
                if world.faults.chance("not_ready"):
                    raise Unavailable.of("not there yet", reason="RECORDING_NOT_READY")
                life.check()
                world.recordings.setdefault(name, request.call)
            recording = recording_pb2.Recording(name=name, call=request.call)
            if (
                len(world.recordings) % 2
            ):  # a short one is transcribed within a call, any other by an operation
                recording.duration.FromSeconds(30)
            return recording

        async def transcribe_short(request):
            name = request.recording.replace("/recordings/", "/transcripts/") + f"-{request.generation}"
            if name not in world.transcripts:
                await asyncio.sleep(world.faults.stage())
                life.check()
                world.transcripts.setdefault(name, world.recordings[request.recording])
            return transcript_pb2.Transcript(name=name, speakers=2)

        async def transcribe(request):
            """Keep an operation that goes on by itself, for longer than a stage waits where the engine is slow."""
            tenant, _, recording = request.name.partition("/recordings/")
            name = f"{tenant}/operations/audio-{request.request_id}"
            transcript = f"{tenant}/transcripts/{recording}-{request.generation}"
            life.check()
            over = world.loop.time() + 4 * world.faults.stage()
            world.operations.setdefault(name, (over, transcript, request.name))
            return operations_pb2.Operation(name=name)

        async def wait(request):
            if request.name not in world.operations:
                raise NotFound(request.name)
            over, transcript, recording = world.operations[request.name]
            left = over - world.loop.time()
            await asyncio.sleep(max(0.0, min(left, request.timeout.ToTimedelta().total_seconds())))
            operation = operations_pb2.Operation(name=request.name, done=world.loop.time() >= over)
            if operation.done:
                life.check()
                world.transcripts.setdefault(transcript, world.recordings[recording])
                response = transcription_service_pb2.TranscribeRecordingResponse(transcript=transcript)
                operation.response.Pack(response)
            return operation

        async def read(request):
            return transcript_pb2.Transcript(name=request.name, speakers=2)

        async def analyse(request):
            heard = request.transcript.name or request.text
            key = (request.call, heard, request.generation)
            if key not in world.analyses:
                await asyncio.sleep(world.faults.stage())
                life.check()
                world.analyses.setdefault(key, f"{request.parent}/analyses/a{len(world.analyses)}")
            return analysis_pb2.Analysis(name=world.analyses[key], call=request.call)

        return [], {
            "FetchRecording": fetch,
            "CreateTranscript": transcribe_short,
            "TranscribeRecording": transcribe,
            "WaitOperation": wait,
            "GetTranscript": read,
            "AnalyzeCall": analyse,
        }

    return build


def resolved(tenant_id, seeded, number):
    """A source as the tenant service gives it to the gateway."""
    return source_pb2.ResolvedSource(
        source=source_pb2.Source(
            name=f"tenants/{tenant_id}/sources/{seeded.id}",
            provider=provider_pb2.PROVIDER_CALLRAIL,
            provider_account=seeded.account,
            api_base_url="http://recordings",
        ),
        secrets=[source_pb2.SourceSecret(value=seeded.secret)],
        fetch_credential=seeded.credential,
        accepting=True,
        revision=number,
    )
