"""Operations on each engine: started once, read by their tenant, worked on until they end, and gone in time."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from google.rpc import error_details_pb2
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_jobs import Queue, jobs_table
from trunkline_jobs.operations import (
    OperationKind,
    OperationRunner,
    Operations,
    OperationState,
    operations_table,
)
from trunkline_runtime.api import paging
from trunkline_runtime.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from trunkline_runtime.observe import tracing
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.rpc.operations import owner_of

METADATA = sa.MetaData()
JOBS = jobs_table(METADATA)
TABLE = operations_table(METADATA)
KIND = "test.transcribe"
PATIENCE = 20.0
KEEP = timedelta(days=7)
LEASE = 10.0


@pytest.fixture
def metadata():
    return METADATA


@pytest.fixture
def operations(db):
    return over(db)


def over(db, **more):
    return Operations(db, TABLE, Queue(db, JOBS), service="audio", keep=KEEP, look_seconds=0.02, **more)


def request(recording="tenants/acme/recordings/r-1", **more):
    return pb.TranscribeRecordingRequest(name=recording, **more)


async def start(operations, tenant="acme", asked=None, **more):
    asked = asked or request()
    return await operations.start(
        tenant, KIND, asked, pb.TranscribeRecordingMetadata(recording=asked.name), **more
    )


def metadata_of(operation):
    found = pb.TranscribeRecordingMetadata()
    assert operation.to_proto().metadata.Unpack(found)
    return found


def reason_of(status):
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


class Worker:
    """Works as it is told to, and counts how often and on what."""

    def __init__(self, operations, **more):
        self.operations = operations
        self.asked = []
        self.traces = []
        self.failures = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.stopped = 0
        self.runner = OperationRunner(
            operations,
            [OperationKind(KIND, pb.TranscribeRecordingRequest, self.work, **more)],
            slots=4,
            lease_seconds=LEASE,
            pace=Pace(intervals={"operations.look": 0.02}),
            jitter=lambda: 0.0,
        )

    async def work(self, work):
        self.asked.append(work)
        self.traces.append(tracing.trace_id())
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        if self.failures:
            raise self.failures.pop(0)
        return pb.TranscribeRecordingResponse(transcript=f"tenants/{work.tenant}/transcripts/t-1")

    async def __aenter__(self):
        self.others = asyncio.all_tasks()
        self.loop = asyncio.create_task(self.runner.run())
        return self

    async def __aexit__(self, *_):
        self.loop.cancel()
        await asyncio.gather(self.loop, return_exceptions=True)
        await self.runner.close()


async def kill(worker):
    """End a worker as kill -9 would: nothing is given back, and nobody is told."""
    tasks = asyncio.all_tasks() - worker.others
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(ready):
    async with asyncio.timeout(PATIENCE):
        while not await ready():
            await asyncio.sleep(0.005)


async def ended(operations, operation):
    found = await operations.wait(operation.tenant_id, operation.operation_id, PATIENCE)
    assert found.done
    return found


async def jobs_left(db):
    return await db.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(JOBS)).scalar_one())


async def test_an_operation_is_kept_before_anybody_works_on_it(operations, clock):
    made = await start(operations, requested_by="api_key:k1")
    assert owner_of(made.name) == "audio"
    assert await operations.get("acme", made.operation_id) == made
    message = made.to_proto()
    assert not message.done
    assert message.WhichOneof("result") is None
    told = metadata_of(made)
    assert told.recording == "tenants/acme/recordings/r-1"
    assert told.progress.create_time.ToDatetime() == clock.now().replace(tzinfo=None)
    assert not told.progress.HasField("end_time")


async def test_work_ends_an_operation_with_its_response_and_leaves_no_job(operations, db, clock):
    made = await start(operations)
    async with Worker(operations) as worker:
        done = await ended(operations, made)
    assert [work.request for work in worker.asked] == [request()]
    assert worker.asked[0].operation == made.name
    response = pb.TranscribeRecordingResponse()
    assert done.to_proto().response.Unpack(response)
    assert response.transcript == "tenants/acme/transcripts/t-1"
    progress = metadata_of(done).progress
    assert progress.attempts == 1
    assert progress.HasField("end_time")
    assert done.expire_at == clock.now() + KEEP
    assert await jobs_left(db) == 0


async def test_a_request_id_starts_one_operation_of_its_tenant(operations):
    one = await start(operations, request_id="q-1")
    assert await start(operations, request_id="q-1") == one
    assert (await start(operations, tenant="other", request_id="q-1")).operation_id != one.operation_id
    assert (await start(operations)).operation_id != (await start(operations)).operation_id
    with pytest.raises(InvalidArgument, match="request_id"):
        await start(operations, asked=request(language="es"), request_id="q-1")


async def test_a_request_that_is_sent_again_starts_what_failed_anew_and_not_what_succeeded(operations):
    made = await start(operations, request_id="q-1")
    await operations.cancel("acme", made.operation_id)
    again = await start(operations, request_id="q-1")
    assert (again.name, again.done, again.attempts) == (made.name, False, 0)
    async with Worker(operations):
        done = await ended(operations, again)
    assert await start(operations, request_id="q-1") == done


async def test_requests_of_one_id_at_once_start_one_operation(operations, db):
    made = await asyncio.gather(*(start(operations, request_id="q-1") for _ in range(4)))
    assert len({one.operation_id for one in made}) == 1
    assert await jobs_left(db) == 1


async def test_what_may_not_begin_leaves_nothing(operations, db):
    def refuse(conn):
        raise NotFound("tenants/acme/recordings/r-1")

    with pytest.raises(NotFound):
        await start(operations, check=refuse)
    assert await jobs_left(db) == 0


async def test_an_operation_is_of_its_tenant_alone(operations):
    made = await start(operations)
    for ask in (operations.get, operations.cancel, operations.delete):
        with pytest.raises(NotFound):
            await ask("other", made.operation_id)
    with pytest.raises(NotFound):
        await operations.wait("other", made.operation_id, 1.0)
    page, token = await operations.page("other", paging.Place(10, "", ""))
    assert (page, token) == ([], "")


async def test_a_list_is_paged_the_latest_first_and_filtered(operations, clock):
    made = []
    for _ in range(5):
        made.append(await start(operations))
        clock.advance(1)
    await operations.cancel("acme", made[0].operation_id)
    names, token = [], ""
    while True:
        page, token = await operations.page("acme", paging.Place(2, token, "d"))
        names += [one.operation_id for one in page]
        if not token:
            break
    assert names == [one.operation_id for one in reversed(made)]
    running, _ = await operations.page("acme", paging.Place(10, "", "d"), "state = running")
    assert [one.operation_id for one in running] == names[:4]
    with pytest.raises(InvalidArgument, match="filter"):
        await operations.page("acme", paging.Place(10, "", "d"), "request = x")
    with pytest.raises(InvalidArgument, match="allowed: one of running, succeeded, failed, cancelled"):
        await operations.page("acme", paging.Place(10, "", "d"), "state = done")


async def test_a_killed_process_leaves_an_operation_that_the_next_one_ends(operations, db, clock):
    made = await start(operations)
    first = Worker(operations)
    first.gate.clear()
    await first.__aenter__()
    await first.entered.wait()
    await kill(first)
    assert not (await operations.get("acme", made.operation_id)).done
    clock.advance(LEASE + 1)
    async with Worker(over(db)) as second:
        done = await ended(operations, made)
    assert done.state is OperationState.SUCCEEDED
    assert [work.attempt for work in second.asked] == [2], "the killed attempt was one"


async def test_what_kills_its_process_each_time_is_given_up(operations, db, clock):
    made = await start(operations)
    for _ in range(2):
        worker = Worker(operations, attempts=2)
        worker.gate.clear()
        await worker.__aenter__()
        await worker.entered.wait()
        await kill(worker)
        clock.advance(LEASE + 1)
    async with Worker(operations, attempts=2) as last:
        done = await ended(operations, made)
    assert last.asked == []
    assert done.state is OperationState.FAILED
    assert reason_of(done.to_proto().error) == "GIVEN_UP"
    assert await jobs_left(db) == 0


async def test_a_clean_stop_gives_back_without_spending_an_attempt(operations, db):
    made = await start(operations)
    async with Worker(operations) as first:
        first.gate.clear()
        await first.entered.wait()
    assert first.stopped == 1
    async with Worker(over(db)) as second:
        assert (await ended(operations, made)).state is OperationState.SUCCEEDED
    assert [work.attempt for work in second.asked] == [1]


async def test_what_may_pass_is_waited_for_and_told(operations, clock):
    made = await start(operations)
    async with Worker(operations, attempts=1) as worker:
        worker.failures = [Unavailable("no model", reason="ENGINE_NOT_READY", retry_after=5.0)]

        async def waits():
            found = await operations.get("acme", made.operation_id)
            return found.problem is not None

        await until(waits)
        progress = metadata_of(await operations.get("acme", made.operation_id)).progress
        assert reason_of(progress.problem) == "ENGINE_NOT_READY"
        assert progress.attempts == 0
        clock.advance(6)
        done = await ended(operations, made)
    assert done.state is OperationState.SUCCEEDED
    assert not metadata_of(done).progress.HasField("problem")


async def test_each_attempt_is_in_the_trace_that_the_operation_was_started_in(operations, clock):
    token = tracing.enter(tracing.TraceContext("c" * 32, "d" * 16, "01"))
    made = await start(operations)
    tracing.leave(token)
    async with Worker(operations) as worker:
        worker.failures = [Unavailable("no model", retry_after=5.0)]

        async def waits():
            return (await operations.get("acme", made.operation_id)).problem is not None

        await until(waits)
        clock.advance(6)
        await ended(operations, made)
    assert worker.traces == ["c" * 32] * 2


async def test_waiting_ends_when_patience_does(operations, clock):
    made = await start(operations)
    async with Worker(operations, patience=timedelta(seconds=3)) as worker:
        worker.failures = [Unavailable("away", retry_after=5.0), Unavailable("away")]

        async def waits():
            return (await operations.get("acme", made.operation_id)).problem is not None

        await until(waits)
        clock.advance(6)
        done = await ended(operations, made)
    assert done.state is OperationState.FAILED
    assert reason_of(done.to_proto().error) == "UNAVAILABLE"


async def test_a_passing_fault_spends_attempts_and_a_lasting_one_ends_at_once(operations, clock):
    made = await start(operations)

    async def later():
        found = await operations.get("acme", made.operation_id)
        if found.problem is not None:
            clock.advance(5)  # the pause is over, and no lease
        return found.done

    async with Worker(operations, attempts=2) as worker:
        worker.failures = [Aborted("worker lost", reason="WORKER_LOST")] * 3
        await until(later)
    failed = await operations.get("acme", made.operation_id)
    assert (failed.attempts, len(worker.asked)) == (2, 2)
    assert reason_of(failed.to_proto().error) == "WORKER_LOST"

    made = await start(operations)
    async with Worker(operations) as worker:
        worker.failures = [FailedPrecondition("no sound", reason="RECORDING_UNREADABLE")]
        done = await ended(operations, made)
    assert len(worker.asked) == 1
    assert reason_of(done.to_proto().error) == "RECORDING_UNREADABLE"


async def test_a_bug_shows_nothing_of_itself(operations):
    made = await start(operations)
    async with Worker(operations, attempts=1) as worker:
        worker.failures = [ValueError("tenants' own words")]
        done = await ended(operations, made)
    assert "words" not in str(done.to_proto().error)
    assert done.to_proto().error.code == 13


async def test_cancelling_ends_what_waits_and_stops_what_runs(operations, db):
    waits = await start(operations)
    await operations.cancel("acme", waits.operation_id)
    found = await operations.get("acme", waits.operation_id)
    assert found.state is OperationState.CANCELLED
    assert found.to_proto().error.code == 1

    async with Worker(operations) as worker:
        worker.gate.clear()
        runs = await start(operations)
        await worker.entered.wait()
        await operations.cancel("acme", runs.operation_id)

        async def has_stopped():
            return worker.stopped == 1

        await until(has_stopped)
        worker.gate.set()
    assert (await operations.get("acme", runs.operation_id)).state is OperationState.CANCELLED
    await operations.cancel("acme", runs.operation_id)  # again changes nothing
    assert await jobs_left(db) == 0
    assert len(worker.asked) == 1


async def test_only_what_has_ended_is_deleted(operations):
    made = await start(operations)
    with pytest.raises(FailedPrecondition):
        await operations.delete("acme", made.operation_id)
    async with Worker(operations):
        await ended(operations, made)
    await operations.delete("acme", made.operation_id)
    with pytest.raises(NotFound):
        await operations.get("acme", made.operation_id)


async def test_waiting_returns_what_still_runs_when_time_is_over_or_the_server_stops(operations):
    made = await start(operations)
    assert not (await operations.wait("acme", made.operation_id, 0.0)).done
    assert not (await operations.wait("acme", made.operation_id, -1.0)).done
    stop = asyncio.Event()
    waiting = asyncio.create_task(operations.wait("acme", made.operation_id, PATIENCE, stop))
    stop.set()
    assert not (await waiting).done


async def test_whoever_waits_hears_of_an_end_in_another_process(operations, db):
    made = await start(operations)
    waiting = asyncio.create_task(operations.wait("acme", made.operation_id, PATIENCE))
    await over(db).cancel("acme", made.operation_id)
    assert (await waiting).done


class Counted:
    """A store that counts its reads."""

    def __init__(self, db):
        self.db = db
        self.reads = 0

    def __getattr__(self, name):
        return getattr(self.db, name)

    async def peek(self, fn):
        self.reads += 1
        return await self.db.peek(fn)

    async def read(self, fn):
        self.reads += 1
        return await self.db.read(fn)


async def test_those_who_wait_are_looked_for_together(db, engine):
    waiters = 200 if engine == "sqlite" else 20
    counted = Counted(db)
    operations = over(counted)
    made = [await start(operations) for _ in range(2)]
    waits = [
        asyncio.create_task(operations.wait("acme", made[i % 2].operation_id, PATIENCE))
        for i in range(waiters)
    ]

    async def looked_often():
        return counted.reads >= waiters + 10

    await until(looked_often)
    before = counted.reads
    await asyncio.sleep(0.2)
    assert counted.reads - before < waiters, "each of them looks for itself"
    for operation in made:
        await over(db).cancel("acme", operation.operation_id)
    assert all(found.done for found in await asyncio.gather(*waits))


async def test_what_has_ended_is_gone_in_time_and_what_runs_is_not(operations, db, clock, engine):
    ends, runs = await start(operations, request_id="q"), await start(operations)
    await operations.cancel("acme", ends.operation_id)
    clock.advance(KEEP + timedelta(seconds=1))
    with pytest.raises(NotFound):
        await operations.get("acme", ends.operation_id)
    page, _ = await operations.page("acme", paging.Place(10, "", ""))
    assert [one.operation_id for one in page] == [runs.operation_id]
    removed = await operations.sweep()
    # On Spanner the table's ROW DELETION POLICY deletes them, which the emulator takes and does not enforce.
    assert removed == (1 if engine == "sqlite" else 0)
    again = await start(operations, request_id="q")
    assert again.operation_id == ends.operation_id
    assert not again.done


async def test_one_tenant_may_have_so_many_running(db):
    operations = over(db, most_running=2)
    await start(operations)
    made = await start(operations)
    with pytest.raises(ResourceExhausted):
        await start(operations)
    await start(operations, tenant="other")
    await operations.cancel("acme", made.operation_id)
    await start(operations)


async def test_a_work_says_how_far_it_is(operations):
    made = await start(operations)
    said, go = asyncio.Event(), asyncio.Event()

    async def work(work):
        await work.state(pb.TranscribeRecordingMetadata(recording="tenants/acme/recordings/half"))
        said.set()
        await go.wait()
        return pb.TranscribeRecordingResponse()

    worker = Worker(operations)
    worker.work = work
    worker.runner = OperationRunner(
        operations, [OperationKind(KIND, pb.TranscribeRecordingRequest, work)], slots=1
    )
    async with worker:
        await said.wait()
        assert metadata_of(await operations.get("acme", made.operation_id)).recording.endswith("/half")
        go.set()
        await ended(operations, made)
