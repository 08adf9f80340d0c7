"""Worker processes: a job's end is told whatever happens to its process, and a fresh one takes its place."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest
from trunkline_audio.workers.pool import WorkerError, WorkerPool

HERE = str(Path(__file__).parent)


@contextlib.asynccontextmanager
async def running(target="audio_handlers:obedient", size=1, **more):
    pool = WorkerPool(target, size=size, name="test", env={"PYTHONPATH": HERE}, **more)
    pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def test_a_job_is_answered():
    async with running() as pool:
        reply = await pool.run({"do": "echo", "what": "ä\U0001f600"}, seconds=20)
        assert reply["said"] == "ä\U0001f600"
        assert reply["pid"] in pool.pids


@pytest.mark.parametrize(("order", "told"), [("die", "SIGKILL"), ("exit", "exit code 3")])
async def test_a_process_that_dies_fails_its_job_and_is_replaced(order, told):
    async with running() as pool:
        first = (await pool.run({"do": "echo", "what": 1}, seconds=20))["pid"]
        with pytest.raises(WorkerError, match=told) as failure:
            await pool.run({"do": order}, seconds=20)
        assert failure.value.reason == "WORKER_DIED"
        assert failure.value.transient
        assert (await pool.run({"do": "echo", "what": 2}, seconds=20))["pid"] != first


async def test_a_process_killed_while_idle_is_found_before_it_gets_a_job():
    async with running() as pool:
        first = (await pool.run({"do": "echo", "what": 1}, seconds=20))["pid"]
        os.kill(first, signal.SIGKILL)
        while Path(f"/proc/{first}").exists():
            await asyncio.sleep(0.005)
        assert (await pool.run({"do": "echo", "what": 2}, seconds=20))["pid"] != first


async def test_a_job_that_takes_too_long_is_ended_with_its_process():
    async with running() as pool:
        await pool.wait_ready()
        (pid,) = pool.pids
        with pytest.raises(WorkerError) as failure:
            await pool.run({"do": "hang"}, seconds=0.3)
        assert failure.value.reason == "WORKER_TIMEOUT"
        assert not Path(f"/proc/{pid}").exists()
        assert (await pool.run({"do": "echo", "what": 1}, seconds=20))["said"] == 1


async def test_an_asker_that_gives_up_does_not_leave_a_busy_process_behind():
    async with running() as pool:
        await pool.wait_ready()
        (pid,) = pool.pids
        task = asyncio.ensure_future(pool.run({"do": "hang"}, seconds=60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await pool.run({"do": "echo", "what": 1}, seconds=20))["said"] == 1
        assert len(pool.pids) == 1
        assert pool.pids != [pid]


async def test_a_handler_that_raises_keeps_its_process_and_what_it_prints_spoils_nothing():
    async with running() as pool:
        with pytest.raises(WorkerError, match="RuntimeError: told to"):
            await pool.run({"do": "raise"}, seconds=20)
        (pid,) = pool.pids
        assert await pool.run({"do": "print"}, seconds=20) == {}
        assert pool.pids == [pid]


async def test_a_pool_that_cannot_start_says_so_in_time():
    async with running("audio_handlers:never_ready") as pool:
        with pytest.raises(WorkerError, match="no test process became free"):
            await pool.run({"do": "echo", "what": 1}, seconds=0.5)
        async with asyncio.timeout(
            60
        ):  # a busy machine takes longer than that to start the process that fails
            while pool.ready:
                await asyncio.sleep(0.01)


async def test_jobs_run_side_by_side():
    async with running(size=2) as pool:
        await pool.wait_ready(2)
        replies = await asyncio.gather(*(pool.run({"do": "echo", "what": n}, seconds=20) for n in range(20)))
        assert [reply["said"] for reply in replies] == list(range(20))
    assert pool.pids == []


SECRETS = ("TRUNKLINE_AUDIO_KEYS", "TRUNKLINE_TENANT_OPERATOR_TOKEN", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN",
           "GOOGLE_APPLICATION_CREDENTIALS", "HTTPS_PROXY")  # fmt: skip


async def test_a_worker_is_told_nothing_that_the_service_was_entrusted_with(monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    async with running() as pool:
        names = (await pool.run({"do": "environment"}, seconds=20))["names"]
    assert {"PATH", "PYTHONPATH", "OMP_NUM_THREADS"} <= set(names)
    assert not set(SECRETS) & set(names)
    assert {name for name in names if name.startswith("TRUNKLINE_")} <= {"TRUNKLINE_MODELS_FOLDER"}


async def test_settings_reach_the_handler():
    settings = {"path": "/models/ä", "lanes": 2, "sure": 0.5, "none": None}
    async with running("audio_handlers:told", settings=settings) as pool:
        assert await pool.run({}, seconds=20) == settings


# Several lanes in one process


async def until(path):
    async with asyncio.timeout(20):
        while not path.exists():
            await asyncio.sleep(0.005)


class Waiting:
    """A job that runs in the process until its file is there."""

    def __init__(self, pool, folder, name):
        self.begun = folder / f"{name}.begun"
        self.file = folder / name
        request = {"do": "wait", "begun": str(self.begun), "until": str(self.file)}
        self.task = asyncio.create_task(pool.run(request, seconds=60))

    async def ended(self):
        self.file.touch()
        return await asyncio.wait_for(self.task, 20)


async def echo(pool, what):
    return (await pool.run({"do": "echo", "what": what}, seconds=20))["said"]


async def test_jobs_run_at_once_in_the_lanes_of_one_process():
    async with running(lanes=2) as pool:
        meeting = pool.run({"do": "meet"}, seconds=20), pool.run({"do": "meet"}, seconds=20)
        assert await asyncio.gather(*meeting) == [{}, {}]
        assert len(pool.pids) == 1


async def test_each_job_gets_its_own_answer_whichever_is_ready_first(tmp_path):
    async with running(lanes=2) as pool:
        slow = Waiting(pool, tmp_path, "slow")
        assert [await echo(pool, n) for n in range(20)] == list(range(20))
        assert not slow.task.done()
        assert (await slow.ended())["pid"] in pool.pids
        assert await asyncio.gather(*(echo(pool, n) for n in range(50))) == list(range(50))


async def test_a_process_takes_no_more_jobs_at_once_than_it_has_lanes(tmp_path):
    async with running(lanes=2) as pool:
        first, second = Waiting(pool, tmp_path, "first"), Waiting(pool, tmp_path, "second")
        await until(first.begun)
        await until(second.begun)
        with pytest.raises(WorkerError, match="no test process became free"):
            await pool.run({"do": "echo", "what": 1}, seconds=0.05)
        await first.ended()
        assert await echo(pool, 2) == 2
        await second.ended()


async def test_a_job_that_takes_too_long_costs_its_process_and_the_jobs_beside_it_are_told(tmp_path):
    async with running(lanes=3) as pool:
        await pool.wait_ready()
        (pid,) = pool.pids
        beside = [Waiting(pool, tmp_path, name) for name in ("one", "other")]
        for job in beside:
            await until(job.begun)
        with pytest.raises(WorkerError) as failure:
            await pool.run({"do": "hang"}, seconds=0.2)
        assert failure.value.reason == "WORKER_TIMEOUT"
        for job in beside:
            with pytest.raises(WorkerError, match="SIGKILL") as failure:
                await asyncio.wait_for(job.task, 20)
            assert (failure.value.reason, failure.value.transient) == ("WORKER_DIED", True)
        meeting = pool.run({"do": "meet"}, seconds=20), pool.run({"do": "meet"}, seconds=20)
        await asyncio.gather(*meeting)
        assert len(pool.pids) == 1
        assert pool.pids != [pid]


async def test_a_process_that_dies_fails_all_its_jobs_and_is_replaced_once(tmp_path):
    async with running(lanes=3) as pool:
        jobs = [Waiting(pool, tmp_path, str(n)) for n in range(3)]
        for job in jobs:
            await until(job.begun)
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        for told in await asyncio.gather(*(job.task for job in jobs), return_exceptions=True):
            assert isinstance(told, WorkerError)
            assert told.reason == "WORKER_DIED"
        assert await asyncio.gather(*(echo(pool, n) for n in range(20))) == list(range(20))
        assert len(pool.pids) == 1
        assert pool.pids != [pid]


async def test_an_asker_that_gives_up_gets_its_lane_back_and_costs_nobody_else(tmp_path):
    async with running(lanes=2) as pool:
        given_up, other = Waiting(pool, tmp_path, "given-up"), Waiting(pool, tmp_path, "other")
        await until(given_up.begun)
        await until(other.begun)
        pids = pool.pids
        given_up.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up.task
        asker = asyncio.create_task(echo(pool, 1))
        given_up.file.touch()
        assert await asyncio.wait_for(asker, 20) == 1, "its late answer frees the lane and is nobody's"
        assert not other.task.done()
        assert (await other.ended())["pid"] in pids
        assert pool.pids == pids


async def test_a_job_that_nobody_waits_for_still_ends_at_its_time():
    async with running(lanes=2) as pool:
        await pool.wait_ready()
        pids = pool.pids
        asker = asyncio.create_task(pool.run({"do": "hang"}, seconds=0.3))
        await asyncio.sleep(0)
        asker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asker
        async with asyncio.timeout(20):
            while pool.pids in ([], pids):
                await asyncio.sleep(0.005)
        assert await echo(pool, 1) == 1


async def test_a_job_that_raises_costs_none_beside_it(tmp_path):
    async with running(lanes=2) as pool:
        beside = Waiting(pool, tmp_path, "beside")
        await until(beside.begun)
        for _ in range(3):
            with pytest.raises(WorkerError, match="RuntimeError: told to"):
                await pool.run({"do": "raise"}, seconds=20)
        assert (await beside.ended())["pid"] in pool.pids


async def test_closing_ends_jobs_that_still_run(tmp_path):
    async with running(lanes=2) as pool:
        job = Waiting(pool, tmp_path, "never")
        await until(job.begun)
        (pid,) = pool.pids
    with pytest.raises(WorkerError) as failure:
        await asyncio.wait_for(job.task, 20)
    assert failure.value.reason == "WORKER_DIED"
    assert not Path(f"/proc/{pid}").exists()


async def test_an_asker_that_gives_up_while_a_process_dies_leaves_the_pool_with_another():
    async with running() as pool:
        await pool.wait_ready()
        (pid,) = pool.pids
        asker = asyncio.ensure_future(pool.run({"do": "die"}, seconds=20))
        while pool.pids == [pid]:
            await asyncio.sleep(0)
        asker.cancel()
        await asyncio.gather(asker, return_exceptions=True)
        assert (await pool.run({"do": "echo", "what": 1}, seconds=20))["pid"] != pid
