"""Runs one function in a forked process with limits: what it opens, eats or crashes ends with it.

The fork comes from a warm process that has loaded every library and runs one thread of ours, so a job starts
in milliseconds and still has a process, and its limits, to itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trunkline_audio.workers import frames
from trunkline_audio.workers.handlers import HandlerFailed, answer

_PDEATHSIG = 1
# Looked for before any fork; only Linux has it.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class SandboxLimits:
    """What one job may use: processor seconds, wall seconds, bytes of memory and of each file it writes."""

    cpu_seconds: int
    wall_seconds: float
    memory_bytes: int
    file_bytes: int


def run_limited(job: Callable[[Callable[[], None]], frames.Message], limits: SandboxLimits) -> frames.Message:
    """Runs `job` in a fork; it opens its files, then calls the function it was given to close the door.

    From then on no further file can be opened (no descriptors are left), so media that names local files or
    addresses reaches none. Raises HandlerFailed with the job's reason, or CPU_LIMIT, OUT_OF_MEMORY, OUTPUT_LIMIT,
    DECODER_CRASHED, WORKER_TIMEOUT, WORKER_KILLED.
    """
    read_end, write_end = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            faulthandler.disable()  # a crash is told by its signal, not by a dump on stderr
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds)
            _die_with(parent)
            reply = answer(lambda _: job(lambda: _close_the_door(limits)), {})
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(frames.encode(reply))
        finally:
            os._exit(0)
    os.close(write_end)
    try:
        with os.fdopen(read_end, "rb") as pipe:
            reply_or_none = frames.read(pipe)
    finally:
        _, status = os.waitpid(pid, 0)
    if reply_or_none is None:
        raise _death(status, limits)
    if (error := reply_or_none.get("error")) is not None:
        raise HandlerFailed(str(error["reason"]), str(error["message"]))
    return dict(reply_or_none["ok"])


def _die_with(parent: int) -> None:
    """Have the system end this process with its parent, whose job was given up; elsewhere its own limits end it."""
    if _PRCTL is not None:
        _PRCTL(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had gone before
            os._exit(0)


def _close_the_door(limits: SandboxLimits) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    # The soft limit's signal tells this end from any other kill, so the hard one lies a second later.
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_AS, _address_space() + limits.memory_bytes)
    _limit(resource.RLIMIT_NOFILE, 0)


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    # A system that lacks a limit (macOS has no usable RLIMIT_AS) keeps the others.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (soft, soft if hard is None else hard))


def _address_space() -> int:
    """Bytes of address space in use: libraries are mapped already, the limit is for what comes on top."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 4 << 30


def _death(status: int, limits: SandboxLimits) -> HandlerFailed:
    if os.WIFSIGNALED(status):
        died_of = os.WTERMSIG(status)
        if died_of == signal.SIGXCPU:
            return HandlerFailed(
                "CPU_LIMIT", f"decoding needs more than {limits.cpu_seconds} s of processor time"
            )
        if died_of == signal.SIGXFSZ:
            return HandlerFailed("OUTPUT_LIMIT", "the decoded audio is longer than is allowed")
        if died_of == signal.SIGALRM:
            return HandlerFailed("WORKER_TIMEOUT", f"decoding took more than {limits.wall_seconds:g} s")
        if died_of in {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}:
            return HandlerFailed("DECODER_CRASHED", f"the decoder crashed ({signal.Signals(died_of).name})")
        return HandlerFailed("WORKER_KILLED", f"the decoder was killed ({signal.Signals(died_of).name})")
    return HandlerFailed("WORKER_FAILED", "the decoder ended without a result")
