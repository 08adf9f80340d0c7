"""Transcription as an operation, over real gRPC: it outlives whoever asks, and the service."""

import asyncio
import shutil
from datetime import timedelta

import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from test_audio_service import PARENT, TestEngine, failing, serving
from trunkline.audio.v1 import admin_service_pb2
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline.audio.v1.admin_service_pb2_grpc import AdminServiceStub
from trunkline.common.v1 import purge_pb2
from trunkline_jobs.operations.runner import LEASE_SECONDS
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors.wire import from_status
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.rpc.channels import acting_for
from trunkline_store.clock import SystemClock

NAME = f"{PARENT}/recordings/rec-1"
QUICK = Pace(intervals={"operations.look": 0.05})


class Later(SystemClock):
    """The clock of a service that starts when the leases of killed ones before it, so many, have run out."""

    def __init__(self, killed=1):
        self.by = timedelta(seconds=killed * (LEASE_SECONDS + 1))

    def now(self):
        return super().now() + self.by


class Asking:
    """The stubs of a served suite, as a caller of operations uses them."""

    def __init__(self, suite):
        self.suite = suite
        self.stub = operations_pb2_grpc.OperationsStub(suite.channel)

    async def start(self, name=NAME, **more):
        return await self.suite.transcripts.TranscribeRecording(
            pb.TranscribeRecordingRequest(name=name, **more)
        )

    async def wait(self, name, seconds=20):
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromMilliseconds(int(seconds * 1000))
        return await self.stub.WaitOperation(request, timeout=30)

    async def get(self, name):
        return await self.stub.GetOperation(operations_pb2.GetOperationRequest(name=name))

    async def list(self, parent=PARENT, **more):
        return await self.stub.ListOperations(operations_pb2.ListOperationsRequest(name=parent, **more))

    async def cancel(self, name):
        await self.stub.CancelOperation(operations_pb2.CancelOperationRequest(name=name))

    async def delete(self, name):
        await self.stub.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name))

    async def transcript(self, operation):
        response = pb.TranscribeRecordingResponse()
        assert operation.response.Unpack(response)
        return await self.suite.transcripts.GetTranscript(pb.GetTranscriptRequest(name=response.transcript))

    async def problem(self, name):
        async with asyncio.timeout(20):
            while True:
                metadata = pb.TranscribeRecordingMetadata()
                assert (await self.get(name)).metadata.Unpack(metadata)
                if metadata.progress.HasField("problem"):
                    return from_status(metadata.progress.problem)
                await asyncio.sleep(0.01)


async def begun(engine, times=1):
    async with asyncio.timeout(20):
        while engine.calls < times:
            await asyncio.sleep(0.01)


def held():
    engine = TestEngine()
    engine.gate = asyncio.Event()
    return engine


async def test_it_answers_at_once_and_ends_with_the_transcripts_name(tmp_path):
    engine = held()
    async with serving(tmp_path, engine) as suite:
        asking = Asking(suite)
        await suite.fetch()
        made = await asking.start(language="en-US")
        assert not made.done
        await begun(engine)
        assert not (await asking.wait(made.name, 0.05)).done
        engine.gate.set()
        done = await asking.wait(made.name)
        assert done.done
        assert [s.text for s in (await asking.transcript(done)).segments] == ["hello there", "hi"]
        assert await asking.transcript(done) == await suite.transcribe(language="en-US"), (
            "the same transcript"
        )
        assert engine.calls == 1
        metadata = pb.TranscribeRecordingMetadata()
        assert done.metadata.Unpack(metadata)
        assert (metadata.recording, metadata.progress.attempts) == (NAME, 1)


async def test_a_repeated_request_is_one_operation(tmp_path):
    async with serving(tmp_path) as suite:
        asking = Asking(suite)
        await suite.fetch()
        names = {(await asking.start(request_id="q-1")).name for _ in range(3)}
        assert len(names) == 1
        later = Timestamp(seconds=4_000_000_000)
        names.add((await asking.start(request_id="q-1", expire_time=later)).name)
        assert len(names) == 1, "until when it is kept is counted from the request"
        error = await failing(asking.start(request_id="q-1", generation=1))
        assert error.code.name == "INVALID_ARGUMENT"
        assert [operation.name for operation in (await asking.list()).operations] == list(names)


async def test_a_stopped_service_goes_on_after_its_start(tmp_path):
    engine = held()
    async with serving(tmp_path, engine) as suite:
        await suite.fetch()
        made = await Asking(suite).start()
        await begun(engine)
    async with serving(tmp_path) as suite:
        done = await Asking(suite).wait(made.name)
        assert (await Asking(suite).transcript(done)).recording == NAME


async def test_a_killed_service_goes_on_after_its_start(tmp_path):
    """What the disk holds at the moment of a kill is what the next start gets."""
    engine = held()
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with serving(before, engine) as suite:
        await suite.fetch()
        made = await Asking(suite).start()
        await begun(engine)
        shutil.copytree(before, after)
    async with serving(after, pace=QUICK, clock=Later()) as suite:
        done = await Asking(suite).wait(made.name)
        assert (await Asking(suite).transcript(done)).recording == NAME


async def test_an_engine_that_is_not_ready_is_waited_for_and_told(tmp_path):
    engine = TestEngine()
    engine.failure = EngineError("ENGINE_NOT_READY", "no model", transient=True)
    async with serving(tmp_path, engine, pace=QUICK) as suite:
        asking = Asking(suite)
        await suite.fetch()
        made = await asking.start()
        assert (await asking.problem(made.name)).reason == "ENGINE_NOT_READY"
        assert not (await asking.get(made.name)).done
        engine.failure = None
        assert (await asking.wait(made.name)).HasField("response")


async def test_a_recording_that_cannot_be_read_ends_it_with_the_error(tmp_path):
    engine = TestEngine()
    engine.failure = EngineError("BAD_SOUND", "no sound", transient=False)
    async with serving(tmp_path, engine) as suite:
        asking = Asking(suite)
        await suite.fetch()
        done = await asking.wait((await asking.start()).name)
        assert from_status(done.error).reason == "RECORDING_UNREADABLE"


async def test_it_is_cancelled_and_deleted(tmp_path):
    engine = held()
    async with serving(tmp_path, engine) as suite:
        asking = Asking(suite)
        await suite.fetch()
        made = await asking.start()
        await begun(engine)
        assert (await failing(asking.delete(made.name))).reason == "OPERATION_RUNNING"
        await asking.cancel(made.name)
        assert from_status((await asking.get(made.name)).error).reason == "OPERATION_CANCELLED"
        await asking.delete(made.name)
        assert (await failing(asking.get(made.name))).code.name == "NOT_FOUND"
        engine.gate.set()


async def test_a_recording_that_is_not_there_starts_nothing(tmp_path):
    async with serving(tmp_path) as suite:
        assert (await failing(Asking(suite).start())).code.name == "NOT_FOUND"
        assert not (await Asking(suite).list()).operations


async def test_one_tenant_never_sees_anothers(tmp_path):
    async with serving(tmp_path) as suite:
        asking = Asking(suite)
        await suite.fetch()
        made = await asking.start()
        with acting_for("globex"):
            for ask in (
                asking.get(made.name),
                asking.cancel(made.name),
                asking.wait(made.name),
                asking.start(),
            ):
                assert (await failing(ask)).code.name == "NOT_FOUND"
            assert (await failing(asking.list())).code.name == "NOT_FOUND"
            assert not (await asking.list("tenants/globex")).operations


async def test_a_deleted_tenants_operations_are_purged(tmp_path):
    engine = held()
    async with serving(tmp_path, engine) as suite:
        asking = Asking(suite)
        await suite.fetch()
        made = await asking.start()
        await begun(engine)
        await AdminServiceStub(suite.channel).PurgeTenant(purge_pb2.PurgeTenantRequest(name=PARENT))
        assert (await failing(asking.get(made.name))).code.name == "NOT_FOUND"
        engine.gate.set()
        counted = await AdminServiceStub(suite.channel).CountTenant(
            admin_service_pb2.CountTenantRequest(name=PARENT)
        )
        assert counted.recordings_bytes == 0


@pytest.mark.parametrize("seconds", [-5, 0])
async def test_a_wait_of_no_time_is_a_look(tmp_path, seconds):
    engine = held()
    async with serving(tmp_path, engine) as suite:
        asking = Asking(suite)
        await suite.fetch()
        made = await asking.start()
        assert not (await asking.wait(made.name, seconds)).done
