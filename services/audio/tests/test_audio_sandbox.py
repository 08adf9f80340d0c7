"""The sandbox: whatever a job eats, opens or breaks ends with its process and is told apart."""

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from trunkline_audio.workers.handlers import HandlerFailed
from trunkline_audio.workers.sandbox import SandboxLimits, run_limited

LIMITS = SandboxLimits(cpu_seconds=1, wall_seconds=5, memory_bytes=64 << 20, file_bytes=1 << 20)


def test_a_job_answers():
    assert run_limited(lambda close: close() or {"answer": 42}, LIMITS) == {"answer": 42}


def test_a_job_cannot_open_a_file_once_the_door_is_closed():
    def job(close):
        close()
        with open("/etc/hostname") as file:
            return {"leaked": file.read()}

    with pytest.raises(HandlerFailed, match="Too many open files"):
        run_limited(job, LIMITS)


def test_a_job_cannot_reach_the_network_once_the_door_is_closed():
    def job(close):
        close()
        socket.create_connection(("127.0.0.1", 9))
        return {}

    with pytest.raises(HandlerFailed, match=r"Too many open files|OSError"):
        run_limited(job, LIMITS)


def spin(close):
    close()
    while True:
        pass


def eat(close):
    close()
    return {"size": len(bytearray(200 << 20))}


def write(tmp_path):
    def job(close):
        with (tmp_path / "out").open("wb", buffering=0) as out:
            close()
            while True:
                out.write(b"\0" * 65536)

    return job


def end(how):
    def job(close):
        os.kill(os.getpid(), how)
        return {}

    return job


@pytest.mark.parametrize(
    ("job", "limits", "reason"),
    [
        (spin, LIMITS, "CPU_LIMIT"),
        (spin, SandboxLimits(10, 0.3, 64 << 20, 1), "WORKER_TIMEOUT"),
        (eat, LIMITS, "OUT_OF_MEMORY"),
        (end(signal.SIGSEGV), LIMITS, "DECODER_CRASHED"),
        (end(signal.SIGKILL), LIMITS, "WORKER_KILLED"),
        (lambda close: os._exit(0), LIMITS, "WORKER_FAILED"),
    ],
    ids=["processor", "time", "memory", "crash", "kill", "silent"],
)
def test_each_limit_is_told_by_its_own_reason(job, limits, reason):
    with pytest.raises(HandlerFailed) as failure:
        run_limited(job, limits)
    assert failure.value.reason == reason


def test_a_job_that_writes_too_much_is_stopped(tmp_path):
    with pytest.raises(HandlerFailed) as failure:
        run_limited(write(tmp_path), LIMITS)
    assert failure.value.reason == "OUTPUT_LIMIT"
    assert (tmp_path / "out").stat().st_size == LIMITS.file_bytes


def test_what_a_job_raises_is_passed_on():
    def job(close):
        raise HandlerFailed("NOT_AUDIO", "a picture")

    with pytest.raises(HandlerFailed, match="a picture") as failure:
        run_limited(job, LIMITS)
    assert failure.value.reason == "NOT_AUDIO"


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_a_job_ends_with_the_process_that_was_killed_for_it(tmp_path):
    """Somebody gave the recording up: its worker is killed, and what it forked must not decode on for minutes."""

    def job(close):
        (tmp_path / "pid.part").write_text(str(os.getpid()))
        (tmp_path / "pid.part").rename(tmp_path / "pid")
        time.sleep(30)
        return {}

    def until(found):
        end = time.monotonic() + 20
        while not found():
            assert time.monotonic() < end
            time.sleep(0.01)

    worker = os.fork()
    if worker == 0:
        with contextlib.suppress(BaseException):
            run_limited(job, SandboxLimits(30, 30.0, 64 << 20, 1 << 20))
        os._exit(0)
    until((tmp_path / "pid").exists)
    forked = int((tmp_path / "pid").read_text())
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)

    def gone():
        try:
            return Path(f"/proc/{forked}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(gone)
