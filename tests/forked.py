"""Processes of the services by the dozen: one process that has imported a service forks for each that is wanted.

What runs is `python -m <module> <arguments>` in an environment, a folder and a process of its own, as a user's would
be; only Python's start and the imports, one to two seconds of processor time, are had once.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from trunkline_cli.suite.processes import LIFELINE, Launched, launched

_ROLES = {
    ("trunkline_gateway",): ("trunkline_gateway.servers", "trunkline_gateway.pipeline.app"),
    ("trunkline_gateway", "serve"): ("trunkline_gateway.servers",),
    ("trunkline_gateway", "work"): ("trunkline_gateway.pipeline.app",),
    ("trunkline_cli",): ("trunkline_cli.main", "httpx"),
    ("trunkline_store.migrate",): ("trunkline_store.migrations", "trunkline_store.spanner.engine"),
    ("tools.eval",): ("tools.eval.asking", "tools.eval.pii", "tools.eval.report", "tools.eval.words"),
}
_COMMANDS = {"trunkline_cli", "trunkline_store.migrate", "tools.eval"}
# What the start of a service imports when it comes to it.
_LATER = (
    "alembic.command", "cryptography.x509", "jwt", "protovalidate", "pygments.lexers", "sqlalchemy.dialects.sqlite",
    "trunkline_store.sqlite.engine",
)  # fmt: skip


def imports(command: tuple[str, ...]) -> tuple[str, ...]:
    """What the process of a command imports."""
    roles = _ROLES.get(command, (f"{command[0]}.app",))
    starts = command[0] not in _COMMANDS and command[1:] != ("work",)
    return (*roles, *_LATER) if starts else roles


_SERVER = """
import gc, importlib, io, json, os, runpy, select, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
from trunkline_cli.suite import follow
gc.collect()
gc.freeze()
ended, poll = {}, select.poll()
poll.register(0, select.POLLIN)

def child(told, ready):
    os.setsid()
    os.close(ready)
    for number in ended:
        os.close(number)
    os.chdir(told["folder"])
    sys.path[0] = os.getcwd()
    os.environ.clear()
    os.environ.update(told["env"])
    os.dup2(told["in"] if told["in"] else os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(told[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    sys.stdin = open(0, closefd=False)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(number, "wb", 0, closefd=False), write_through=True) for number in (1, 2)
    )
    if told["in"]:
        threading.Thread(target=follow.follow, name="follow", daemon=True).start()
    sys.argv = ["", *told["arguments"]]
    runpy.run_module(told["module"], run_name="__main__", alter_sys=True)
    sys.exit(0)

while True:
    for number, _ in poll.poll():
        if number:
            poll.unregister(number)
            os.close(number)
            pid = ended.pop(number)
            print(json.dumps([pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]), flush=True)
        else:
            if not (line := sys.stdin.buffer.raw.readline()):
                os._exit(0)
            waits, ready = os.pipe()
            pid = os.fork()
            if not pid:
                child(json.loads(line), ready)
            os.close(ready)
            os.read(waits, 1)  # until it has a session of its own
            os.close(waits)
            ended[number := os.pidfd_open(pid)] = pid
            poll.register(number, select.POLLIN)
            print(json.dumps([pid, None]), flush=True)
"""


class Process:
    """A process that was forked; what of subprocess.Popen a suite asks."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        """Note that it ended."""
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Forked:
    """The processes of one command: a module and its first arguments."""

    def __init__(self, *command: str) -> None:
        """Import what the command needs, once."""
        self._command = command
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *imports(command)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[LIFELINE], start_new_session=True,
        )  # fmt: skip
        self._started: queue.Queue[Process] = queue.Queue()
        threading.Thread(target=self._listen, name=f"forks of {command[0]}", daemon=True).start()

    def _listen(self) -> None:
        running: dict[int, Process] = {}
        assert self._server.stdout is not None
        for line in self._server.stdout:
            pid, code = json.loads(line)
            if code is None:
                running[pid] = Process(pid)
                self._started.put(running[pid])
            else:
                running.pop(pid).end(code)

    def start(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        folder: Path,
        out: Path,
        err: Path,
        stdin: int = 0,
    ) -> Process:
        """Start one; without a `stdin` it has none."""
        assert self._server.stdin is not None
        told = {
            "module": self._command[0], "arguments": [*self._command[1:], *arguments], "env": {**env},
            "folder": str(folder), "out": str(out), "err": str(err), "in": stdin,
        }  # fmt: skip
        self._server.stdin.write(json.dumps(told).encode() + b"\n")
        self._server.stdin.flush()
        return self._started.get(timeout=60)

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run one to its end, as subprocess.run does."""
        with TemporaryDirectory() as made:
            out, err = Path(made, "out"), Path(made, "err")
            code = self.start(arguments, env, folder, out, err).wait()
            return subprocess.CompletedProcess(
                [*self._command, *arguments], code, out.read_text(), err.read_text()
            )

    def end(self) -> None:
        """End the process that forks."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


@functools.cache
def forked(*command: str) -> Forked:
    """Return the session's own of a command."""
    made = Forked(*command)
    atexit.register(made.end)
    return made


def launch(command: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> Launched:
    """Start a process of a suite (see Suite.launch)."""
    if not hasattr(os, "pidfd_open"):  # only Linux tells so when a process ended
        return launched(command, env, log)
    path = Path(f"/proc/self/fd/{log.fileno()}").readlink()
    return forked(*command).start([], env, Path.cwd(), path, path, LIFELINE)
