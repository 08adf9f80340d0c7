"""A call that was deleted is nowhere, and nothing brings it back; those beside it are all there."""

from contextlib import AsyncExitStack

import grpc
import pytest
import sqlalchemy as sa
from trunkline.ai.v1 import analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import admin_service_pb2_grpc
from trunkline.common.v1 import purge_pb2
from trunkline.gateway.v1 import job_service_pb2 as jobs_pb
from trunkline.tenant.v1 import (
    call_service_pb2,
    call_service_pb2_grpc,
    lead_service_pb2,
    lead_service_pb2_grpc,
    tenant_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)
from trunkline_audio.retention import delete_recordings
from trunkline_audio.schema import recordings, transcripts
from trunkline_gateway import schema
from trunkline_gateway.events.call_deletion import DELETE_CALL, DELETE_CALLER, CallDeletions
from trunkline_gateway.events.retention import sweep
from trunkline_jobs import TaskKind, TaskRunner, Tasks
from trunkline_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, from_rpc_error

from tests.integration.deletion_suite import Suite, record

TENANT = "acme"
PARENT = f"tenants/{TENANT}"


@pytest.fixture
async def suite(tmp_path):
    async with AsyncExitStack() as stack:
        suite = await CallSuite(tmp_path).open(stack)
        made = tenant_service_pb2.CreateTenantRequest(
            tenant_id=TENANT, tenant=tenant_pb2.Tenant(display_name=TENANT), request_id="r-1"
        )
        await suite.operate(tenant_service_pb2_grpc.TenantServiceStub, "CreateTenant", made)
        yield suite


class CallSuite(Suite):
    """Calls with everything that the four services keep of them."""

    async def asked(self, stub, method, request, service="tenant"):
        try:
            return await self.gateway(stub, method, request, service)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    async def record(self, n, *more, **fields):
        request = record(TENANT, n)
        request.aliases.extend(more)
        for field, value in fields.items():
            setattr(request.call, field, value)
            request.field_mask.paths.append(field)
        return await self.asked(call_service_pb2_grpc.CallServiceStub, "RecordCall", request)

    async def record_of(self, provider_call_id):
        request = record(TENANT, 9)
        request.call.provider_call_id = provider_call_id
        del request.aliases[:]
        return await self.asked(call_service_pb2_grpc.CallServiceStub, "RecordCall", request)

    async def call(self, n):
        """Have a call come in and be worked on; its name."""
        name = (await self.record(n)).name
        await self.audio.keep(TENANT, n, call=name)
        text = analysis_service_pb2.AnalyzeCallRequest(parent=PARENT, call=name, text=f"a pipe burst {n}")
        await self.asked(analysis_service_pb2_grpc.AnalysisServiceStub, "AnalyzeCall", text, "ai")
        await self.event(n, name)
        return name

    async def event(self, n, call):
        name = await self.world.event(n)
        (job,) = await self.world.claim()
        done = jobs_pb.JobDone(call=call)
        assert await self.world.report(job, done=done, checkpoint={"record": call}) == []
        return name

    def deletions(self, **addresses):
        tasks = Tasks(self.world.db, schema.tasks)
        made = CallDeletions(self.world.db, tasks, self.channels, **{**self.addresses, **addresses})
        kinds = [
            TaskKind(name=DELETE_CALL, work=made.delete_call),
            TaskKind(name=DELETE_CALLER, work=made.delete_caller),
        ]
        return made, TaskRunner(tasks, kinds)

    async def delete(self, name, **addresses):
        made, runner = self.deletions(**addresses)
        await made.order_call(name)
        await self.world.work(runner)

    async def kept(self, name):
        """What still tells of a call: its parts by service."""
        found = set()
        try:
            request = call_service_pb2.GetCallRequest(name=name)
            await self.asked(call_service_pb2_grpc.CallServiceStub, "GetCall", request)
            found.add("call")
        except NotFound:
            pass
        here = schema.events.c.call == name
        if await self.world.db.read(lambda conn: conn.execute(sa.select(schema.events).where(here)).first()):
            found.add("event")
        listed = analysis_service_pb2.ListAnalysesRequest(
            parent=PARENT, filter=f"call = {name.rpartition('/')[2]}"
        )
        if (
            await self.asked(analysis_service_pb2_grpc.AnalysisServiceStub, "ListAnalyses", listed, "ai")
        ).analyses:
            found.add("analysis")
        return found

    async def leads(self):
        request = lead_service_pb2.ListLeadsRequest(parent=PARENT)
        return (await self.asked(lead_service_pb2_grpc.LeadServiceStub, "ListLeads", request)).leads

    async def transcripts(self):
        query = sa.select(transcripts.c.transcript_id).order_by(transcripts.c.transcript_id)
        return await self.audio.db.read(lambda conn: conn.execute(query).scalars().all())

    def blobs(self):
        return sorted(path.name for path in (self.folder / "blobs").rglob("r.*"))


async def test_a_deleted_call_is_nowhere_and_the_others_are_all_there(suite):
    one, two = await suite.call(1), await suite.call(2)
    everything = {"call", "event", "analysis"}
    assert await suite.kept(one) == await suite.kept(two) == everything
    await suite.delete(one)
    assert await suite.kept(one) == set()
    assert await suite.kept(two) == everything
    assert suite.blobs() == ["r.rec-2"]
    assert await suite.transcripts() == ["t-2"]
    assert await suite.world.rows(schema.receipts) == 1
    (lead,) = await suite.leads()
    assert (lead.call_count, lead.last_call) == (1, two)
    with pytest.raises(NotFound):
        await suite.delete(one)


async def test_a_transcript_that_outlived_its_recording_goes_as_well(suite):
    one = await suite.call(1)
    await suite.record(1, transcript=f"{PARENT}/transcripts/t-1")
    await delete_recordings(suite.audio.db, suite.audio.blobs, recordings.c.recording_id == "rec-1")
    assert await suite.transcripts() == ["t-1"]
    await suite.delete(one)
    assert await suite.transcripts() == []


async def test_a_webhook_that_is_delivered_again_does_not_bring_it_back(suite):
    one = await suite.call(1)
    await suite.delete(one)
    event = await suite.world.event(1)  # the event itself is gone, so this is one
    with pytest.raises(FailedPrecondition) as refused:
        await suite.record(1)
    assert refused.value.reason == "CALL_ERASED"
    (job,) = await suite.world.claim()
    await suite.world.bury(job, f"CALL_ERASED: {refused.value.message}")
    await sweep(suite.world.db)
    with pytest.raises(NotFound):
        await suite.world.show(event)
    assert await suite.world.rows(schema.receipts) == 0
    assert await suite.kept(one) == set()


async def test_another_dead_letter_is_not_swept(suite):
    event = await suite.world.event(1)
    (job,) = await suite.world.claim()
    await suite.world.bury(job, "MALFORMED: no CALL_ERASED: here")
    await sweep(suite.world.db)
    assert (await suite.world.show(event)).name == event


async def test_further_ids_of_an_erased_call_are_erased_with_it(suite):
    one = await suite.call(1)
    await suite.delete(one)
    with pytest.raises(FailedPrecondition):
        await suite.record(1, "other-id")
    with pytest.raises(FailedPrecondition):
        await suite.record_of("other-id")
    assert (await suite.record(2)).name


async def test_what_a_worker_made_meanwhile_goes_with_the_second_look(suite):
    one = await suite.call(1)
    await suite.delete(one)
    await suite.audio.keep(TENANT, 7, call=one)  # a worker was in the middle of it
    await suite.event(3, one)
    assert suite.blobs() == ["r.rec-7"]
    suite.world.clock.advance(901)
    _, runner = suite.deletions()
    await suite.world.work(runner)
    assert suite.blobs() == []
    assert await suite.kept(one) == set()
    for _ in range(2):
        suite.world.clock.advance(901)
        await suite.world.work(runner)
    assert await suite.world.rows(schema.tasks) == 0, "nothing was left, so the task is over"


async def test_a_service_that_is_down_is_asked_again(suite):
    one = await suite.call(1)
    await suite.delete(one, audio_address="127.0.0.1:1")
    assert suite.blobs() == ["r.rec-1"]
    suite.world.clock.advance(300)
    _, runner = suite.deletions()
    await suite.world.work(runner)
    assert suite.blobs() == []
    assert await suite.kept(one) == set()


async def test_a_callers_calls_all_go_and_a_later_call_is_a_new_one(suite):
    names = [await suite.call(n) for n in (1, 2, 3)]
    await suite.record(3, spam=True)  # counts for no lead, and is of the same number
    (lead,) = await suite.leads()
    made, runner = suite.deletions()
    await made.order_caller(lead.name)
    await suite.world.work(runner)
    for name in names:
        assert await suite.kept(name) == set()
    assert suite.blobs() == []
    assert await suite.leads() == []
    with pytest.raises(NotFound):
        await made.order_caller(lead.name)
    suite.world.clock.advance(5)
    await suite.world.work(runner)
    assert (await suite.record(4)).lead == lead.name


@pytest.mark.parametrize("field", ["calls", "transcripts"])
async def test_names_of_another_tenant_are_refused(suite, field):
    names = {"calls": [f"{PARENT}/calls/c1"], field: [f"tenants/other/{field}/c1"]}
    request = purge_pb2.PurgeCallsRequest(parent=PARENT, **names)
    with pytest.raises(InvalidArgument):
        await suite.asked(admin_service_pb2_grpc.AdminServiceStub, "PurgeCalls", request, "audio")
