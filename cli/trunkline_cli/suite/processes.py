"""The suite's processes: started together, waited for by health, stopped cleanly."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import grpc
import httpx
from cryptography.fernet import Fernet
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline_runtime.identity import keys
from trunkline_runtime.identity.authority import Authority
from trunkline_runtime.identity.peers import host_of

from trunkline_cli.screen import Failure
from trunkline_cli.services import COMMANDS
from trunkline_cli.suite import web

# name in an environment variable, standard port of gRPC and of metrics
PORTS = {
    "gateway": ("GATEWAY", 50050, 9090),
    "tenant": ("TENANT", 50051, 9091),
    "audio": ("AUDIO", 50052, 9092),
    "ai": ("AI", 50053, 9093),
    "worker": ("WORKER", 0, 9094),
}
READY_SECONDS = 60.0
# Nothing is ever written to it: it closes when this process ends, and the suite's processes end with it.
LIFELINE, _HELD = os.pipe()
_taken: set[int] = set()


class Launched(Protocol):
    """A process that was started, as subprocess.Popen is."""

    @property
    def pid(self) -> int:
        """Its id, and that of its group."""

    @property
    def returncode(self) -> int | None:
        """The exit code once poll() or wait() found that it ended."""

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended. Raises subprocess.TimeoutExpired."""

    def terminate(self) -> None:
        """Ask it to end."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal, if it has not ended."""


def launched(command: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> Launched:
    """Start `python -m` with a command; it ends with this process, and its output goes to the log."""
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("follow.py"), *command],
        env=env, stdout=log, stderr=subprocess.STDOUT, stdin=LIFELINE, start_new_session=True,
    )  # fmt: skip


class SuiteError(Failure):
    """A process did not start or did not stay; the text says which and shows the end of its log."""


@dataclass
class Suite:
    """Five processes over one folder of state; with `mtls` their gRPC is mutual TLS."""

    folder: Path
    free_ports: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    launch: Callable[[Sequence[str], Mapping[str, str], IO[bytes]], Launched] = launched
    mtls: bool = False

    def __post_init__(self) -> None:
        """Decide addresses and keys; nothing is started yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.folder / "log"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)  # also one that an earlier release made
        self.operator_token = _secret_file(
            self.folder / "operator.token", lambda: "tl_op_" + secrets.token_urlsafe(24)
        )
        keys.create(self.folder / "keys")
        if self.mtls:
            Authority(self.tls).renew()
        _secret_file(self.folder / "secrets.key", lambda: Fernet.generate_key().decode())
        self.grpc = {
            name: self._address(name, "GRPC", PORTS[name][1]) for name in ("gateway", "tenant", "audio", "ai")
        }
        self.metrics = {name: self._address(name, "METRICS", port) for name, (_, _, port) in PORTS.items()}
        self.http = self._address("gateway", "HTTP", 8080)
        self.running: dict[str, Launched] = {}

    def _address(self, name: str, kind: str, port: int) -> str:
        given = self.env.get(key := f"TRUNKLINE_{PORTS[name][0]}_{kind}_ADDRESS") or os.environ.get(key)
        return given or f"127.0.0.1:{free_port() if self.free_ports else port}"

    @property
    def http_url(self) -> str:
        """Where webhooks and /v1 are."""
        return f"http://{self.http}"

    @property
    def tls(self) -> Path:
        """The folder of the certificate authority, where `mtls` is on."""
        return self.folder / "tls"

    def channel(self, name: str) -> grpc.Channel:
        """Open a channel to a service, as an operator's program does; whoever opens it closes it."""
        if not self.mtls:
            return grpc.insecure_channel(self.grpc[name])
        files = [(self.tls / "operator" / file).read_bytes() for file in ("ca.crt", "tls.key", "tls.crt")]
        options = [("grpc.ssl_target_name_override", host_of(name))]
        return grpc.secure_channel(self.grpc[name], grpc.ssl_channel_credentials(*files), options)

    def metrics_url(self, name: str = "gateway") -> str:
        """Where a process serves /metrics and the full /readyz."""
        return f"http://{self.metrics[name]}"

    def environment(self) -> dict[str, str]:
        """The settings of every process, over what the caller's environment says."""
        folder = self.folder
        settings = {
            "TRUNKLINE_GATEWAY_HTTP_ADDRESS": self.http,
            "TRUNKLINE_GATEWAY_PUBLIC_URL": self.http_url,
            "TRUNKLINE_GATEWAY_SOURCE_CACHE": str(folder / "gateway.sources"),
            "TRUNKLINE_GATEWAY_AUDIO_ADDRESS": self.grpc["audio"],
            "TRUNKLINE_GATEWAY_AI_ADDRESS": self.grpc["ai"],
            "TRUNKLINE_WORKER_GATEWAY_ADDRESS": self.grpc["gateway"],
            "TRUNKLINE_WORKER_AUDIO_ADDRESS": self.grpc["audio"],
            "TRUNKLINE_WORKER_AI_ADDRESS": self.grpc["ai"],
            "TRUNKLINE_TENANT_SECRET_KEYS_FILE": str(folder / "secrets.key"),
            "TRUNKLINE_TENANT_OPERATOR_TOKEN_FILE": str(folder / "operator.token"),
            "TRUNKLINE_AUDIO_BLOBS_FOLDER": str(folder / "blobs"),
            "TRUNKLINE_AUDIO_SCRATCH_FOLDER": str(folder / "audio-scratch"),
        }
        for name, (prefix, _, _) in PORTS.items():
            settings[f"TRUNKLINE_{prefix}_KEYS"] = str(folder / "keys")
            settings[f"TRUNKLINE_{prefix}_TENANT_ADDRESS"] = self.grpc["tenant"]
            settings[f"TRUNKLINE_{prefix}_LOG_FORMAT"] = "console"
            if self.mtls:
                settings[f"TRUNKLINE_{prefix}_TLS_FOLDER"] = str(self.tls / name)
            if name in self.grpc:
                settings[f"TRUNKLINE_{prefix}_GRPC_ADDRESS"] = self.grpc[name]
                settings[f"TRUNKLINE_{prefix}_STORE_URL"] = f"sqlite:///{folder / name}.db"
            if name in self.metrics:
                settings[f"TRUNKLINE_{prefix}_METRICS_ADDRESS"] = self.metrics[name]
        own = {k: v for k, v in os.environ.items() if k.startswith("TRUNKLINE_")}
        return {**os.environ, **settings, **own, **self.env, "PYTHONUNBUFFERED": "1"}

    def start(self, *names: str) -> None:
        """Start processes (all when none is named) and wait until each says that it serves."""
        names = names or tuple(COMMANDS)
        for name in names:
            self.spawn(name)
        for name in names:
            self.wait_ready(name)

    def spawn(self, name: str) -> Launched:
        """Start one process without waiting; its output goes to log/<name>.log."""
        with self._log(name) as log:
            self.running[name] = process = self.launch(COMMANDS[name], self.environment(), log)
        return process

    def _log(self, name: str) -> IO[bytes]:
        path = self.folder / "log" / f"{name}.log"
        try:
            return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        except OSError as error:  # a full disk: better served without a log than not at all
            print(f"{name} has no log: {error}", file=sys.stderr)
            return Path(os.devnull).open("ab")

    def wait_ready(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Return when the process serves. Raises SuiteError when it ends or takes too long."""
        until = time.monotonic() + seconds
        while not self.is_ready(name):
            if self.running[name].poll() is not None:
                raise SuiteError(f"{name} ended with {self.running[name].returncode}:\n{self.log_end(name)}")
            if time.monotonic() > until:
                raise SuiteError(f"{name} was not ready within {seconds:.0f} s:\n{self.log_end(name)}")
            time.sleep(0.02)

    def is_ready(self, name: str) -> bool:
        """Ask the process once whether it serves."""
        if name == "worker":
            return _listens(self.metrics["worker"]) and _answers(f"{self.metrics_url('worker')}/metrics")
        if not _listens(self.grpc[name]):  # before a client is made, which costs a hundred times as much
            return False
        if name == "gateway" and not _answers(f"{self.http_url}/readyz"):
            return False
        with self.channel(name) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def log_end(self, name: str, lines: int = 15) -> str:
        """The last lines of a process's log."""
        text = (self.folder / "log" / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def kill(self, name: str) -> None:
        """End a process with SIGKILL, its children too, as a crash would."""
        process = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):  # it had ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, *names: str, seconds: float = 15.0) -> dict[str, int]:
        """Ask processes to stop (all, the worker first) and return their exit codes; kill those that do not."""
        order = [n for n in ("worker", "gateway", "ai", "audio", "tenant") if n in (names or COMMANDS)]
        codes = {}
        for name in [n for n in order if n in self.running]:
            process = self.running.pop(name)
            process.terminate()
            try:
                codes[name] = process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                codes[name] = process.wait()
        return codes


def _secret_file(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
    return path.read_text().strip()


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections.

    One of those could be taken while its process is being started again, even by a client that connects to itself.
    Suites that start side by side get ports that differ: each is locked, as a byte of a file that they share, for as
    long as this process lives.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with contextlib.suppress(OSError):
            fcntl.lockf(_ports(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))
            if port not in _taken:
                _taken.add(port)
                return port


@functools.cache
def _ports() -> int:
    """The file whose bytes stand for ports; it is never closed, which would end the locks."""
    path = Path(tempfile.gettempdir()) / f"trunkline-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _answers(url: str) -> bool:
    try:
        return web.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
