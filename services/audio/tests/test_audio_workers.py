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
async def running(target="audio_handlers:obedient", size=1):
    pool = WorkerPool(target, size=size, name="test", env={"PYTHONPATH": HERE})
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
        assert pool.pids in ([pid], pool.pids)
        assert len(pool.pids) == 1


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
        assert not pool.ready


async def test_jobs_run_side_by_side():
    async with running(size=2) as pool:
        await pool.wait_ready(2)
        replies = await asyncio.gather(*(pool.run({"do": "echo", "what": n}, seconds=20) for n in range(20)))
        assert [reply["said"] for reply in replies] == list(range(20))
    assert pool.pids == []


SECRETS = ("TRUNKLINE_AUDIO_SUITE_KEY", "TRUNKLINE_TENANT_OPERATOR_TOKEN", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN",
           "GOOGLE_APPLICATION_CREDENTIALS", "HTTPS_PROXY")  # fmt: skip


async def test_a_worker_is_told_nothing_that_the_service_was_entrusted_with(monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    async with running() as pool:
        names = (await pool.run({"do": "environment"}, seconds=20))["names"]
    assert {"PATH", "PYTHONPATH", "OMP_NUM_THREADS"} <= set(names)
    assert not set(SECRETS) & set(names)
    assert {name for name in names if name.startswith("TRUNKLINE_")} <= {"TRUNKLINE_MODELS_FOLDER"}
