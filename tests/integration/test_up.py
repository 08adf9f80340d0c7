"""`make up`: one in a folder, processes that end are started again, logs that do not grow without end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from trunkline_cli.suite import demo, web
from trunkline_cli.suite.alone import addresses_are_free, only_one
from trunkline_cli.suite.keeping import (
    FIRST_SECONDS,
    MOST_SECONDS,
    OLD_LOGS,
    SOUND_SECONDS,
    Restarts,
    rotate_logs,
)
from trunkline_cli.suite.processes import Suite, SuiteError, free_port

from tools.bench.calls import INSTANT

ROOT = Path(__file__).parent.parent.parent


class Up:
    """A `make up` in a folder of its own."""

    def __init__(self, folder: Path, env: dict[str, str]):
        own = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
        self.folder = folder
        (folder / "tests").is_symlink() or (folder / "tests").symlink_to(ROOT / "tests")
        self.said = (folder / f"said-{time.monotonic_ns()}").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trunkline_cli", "up"], cwd=folder, stdout=self.said, stderr=subprocess.STDOUT,
            env={**own, **env, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def text(self) -> str:
        return Path(self.said.name).read_text()

    def wait(self, what: str, seconds: float = 60) -> str:
        """Wait until the screen shows a pattern."""
        until = time.monotonic() + seconds
        while not re.search(what, self.text()):
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < until, self.text()
            time.sleep(0.05)
        return self.text()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)


def addresses_of(suite: Suite) -> dict[str, str]:
    found = {"TRUNKLINE_GATEWAY_HTTP_ADDRESS": suite.http}
    found |= {f"TRUNKLINE_{n.upper()}_GRPC_ADDRESS": a for n, a in suite.grpc.items()}
    return found | {f"TRUNKLINE_{n.upper()}_METRICS_ADDRESS": a for n, a in suite.metrics.items()}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    suite = Suite(tmp_path_factory.mktemp("addresses"), free_ports=True)
    return addresses_of(suite)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, addresses: dict[str, str]) -> Iterator[Up]:
    first = Up(tmp_path_factory.mktemp("up"), addresses | INSTANT)
    try:
        first.wait("Press Ctrl-C to stop")
        yield first
    finally:
        first.stop()
    assert first.process.returncode == 0, first.text()


def state(folder: Path) -> dict[str, bytes]:
    names = ("dev.json", "seed.json", "up.lock", "operator.token", "keys/trusted.json", "secrets.key")
    return {name: (folder / "var" / name).read_bytes() for name in names}


def test_a_second_one_is_refused_by_name_and_touches_nothing(up, addresses, tmp_path_factory):
    before = state(up.folder)
    second = Up(up.folder, addresses)
    assert second.process.wait(30) == 1
    said = second.text()
    assert f"already running in {up.folder}/var: pid {up.process.pid}, since 20" in said
    assert "Traceback" not in said
    assert state(up.folder) == before
    elsewhere = Up(tmp_path_factory.mktemp("elsewhere"), addresses)
    assert elsewhere.process.wait(30) == 1
    for setting, address in addresses.items():
        assert f"{setting}={address}" in elsewhere.text()
        if Path("/proc/net/tcp").exists():
            held = rf"{setting}={address}  \(pid \d+: .*trunkline_"
            assert re.search(held, elsewhere.text()), elsewhere.text()
    assert not (elsewhere.folder / "var" / "dev.json").exists()
    assert state(up.folder) == before
    assert web.get(f"http://{addresses['TRUNKLINE_GATEWAY_HTTP_ADDRESS']}/readyz").status_code == 200


def test_cleaning_up_beside_a_running_one_is_refused_and_removes_nothing(up):
    before = state(up.folder)
    command = ["make", "-f", ROOT / "Makefile", f"PYTHON={sys.executable}", "clean"]
    ended = subprocess.run(command, cwd=up.folder, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert f"make up is running here (pid {up.process.pid}, since 20" in ended.stderr
    assert state(up.folder) == before


def test_a_process_that_dies_is_started_again_and_said(up, addresses):
    found = subprocess.run(
        ["pgrep", "-P", str(up.process.pid), "-f", "trunkline_ai"], capture_output=True, text=True
    )
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    said = up.wait("ai was restarted", 20)
    assert "ai was ended by signal 9; it restarts in 1 s" in said
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if web.get(f"http://{addresses['TRUNKLINE_AI_METRICS_ADDRESS']}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(up.text())


def test_it_stops_with_all_its_processes_when_its_terminal_is_closed(tmp_path):
    suite = Suite(tmp_path / "addresses", free_ports=True)
    closed = Up(tmp_path, addresses_of(suite) | INSTANT)
    try:
        closed.wait("Press Ctrl-C to stop")
        closed.process.send_signal(signal.SIGHUP)
        assert closed.process.wait(60) == 0
        addresses_are_free(suite)
        assert not (tmp_path / "var" / "dev.json").exists()
    finally:
        closed.stop()


def test_its_processes_end_with_it_when_it_is_killed(tmp_path):
    suite = Suite(tmp_path / "addresses", free_ports=True)
    killed = Up(tmp_path, addresses_of(suite) | INSTANT)
    try:
        killed.wait("Ctrl-C to stop")
    finally:
        killed.process.kill()
        killed.process.wait(10)
    until = time.monotonic() + 20
    while True:
        try:
            return addresses_are_free(suite)
        except SuiteError:
            assert time.monotonic() < until
            time.sleep(0.1)


class Ended:
    def __init__(self, code: int | None = None):
        self.returncode = code

    def poll(self) -> int | None:
        return self.returncode


class Processes:
    def __init__(self, folder: Path):
        self.folder = folder
        self.running = {"ai": Ended(), "audio": Ended()}
        self.spawned: list[str] = []

    def spawn(self, name: str) -> None:
        self.spawned.append(name)
        self.running[name] = Ended(2)

    def log_end(self, name: str, lines: int) -> str:
        return "last words"


def test_the_pause_doubles_up_to_its_bound_and_begins_anew_after_a_sound_run(tmp_path):
    processes, told, now = Processes(tmp_path), [], [0.0]
    restarts = Restarts(processes, told.append, lambda: now[0])  # type: ignore[arg-type]
    processes.running["ai"] = Ended(1)
    pauses = []
    for _ in range(8):
        restarts.step()
        before = now[0]
        while len(processes.spawned) == len(pauses):
            now[0] += 0.5
            restarts.step()
        pauses.append(now[0] - before)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert (pauses[0], pauses[-1]) == (FIRST_SECONDS, MOST_SECONDS)
    assert set(processes.spawned) == {"ai"}
    now[0] += SOUND_SECONDS
    restarts.step()
    assert "in 1 s" in told[-2]


def test_logs_are_rotated_by_size_while_they_are_written(tmp_path):
    log = tmp_path / "gateway.log"
    (tmp_path / "ai.log").write_text("small")
    with log.open("ab") as writing:
        for number in range(6):
            writing.write(f"{number}".encode() * 200)
            writing.flush()
            rotate_logs(tmp_path, 100)
            writing.write(b"next")
            writing.flush()
            assert log.read_bytes() == b"next"
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["ai.log", "gateway.log", *[f"gateway.log.{n}" for n in range(1, OLD_LOGS + 1)]]
    assert (tmp_path / "gateway.log.1").read_bytes().endswith(b"5" * 200)
    assert (tmp_path / "gateway.log.1").stat().st_mode & 0o777 == 0o600


def test_a_lock_is_free_again_when_its_block_ends_and_says_whose_it_is(tmp_path):
    with (
        only_one(tmp_path),
        ExitStack() as stack,
        pytest.raises(SuiteError, match=rf"pid {os.getpid()}, since "),
    ):
        stack.enter_context(only_one(tmp_path))
    with only_one(tmp_path):
        pass


def test_an_address_in_use_is_said_with_its_setting(tmp_path):
    suite = Suite(tmp_path, free_ports=True)
    addresses_are_free(suite)
    host, _, port = suite.grpc["audio"].rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(SuiteError) as error:
        addresses_are_free(suite)
    (line,) = str(error.value).splitlines()[1:]
    said, _, holder = line.partition("  (")
    assert said == f"  TRUNKLINE_AUDIO_GRPC_ADDRESS={suite.grpc['audio']}"
    assert holder.startswith(f"pid {os.getpid()}: ") or not Path("/proc/net/tcp").exists()


def test_a_demo_says_which_addresses_another_suite_has(tmp_path, monkeypatch):
    """Otherwise the other suite would answer the demo."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setenv("TRUNKLINE_TENANT_GRPC_ADDRESS", address)
        with pytest.raises(SuiteError, match=f"TRUNKLINE_TENANT_GRPC_ADDRESS={address}"):
            demo.run({}, lambda _text: None)


def test_suites_that_start_side_by_side_get_ports_that_differ():
    count = 2_000  # of 20,000: a hundred of them would be the same by chance
    module = "trunkline_cli.suite.processes"
    ask = (
        f"from {module} import free_port; print(*(free_port() for _ in range({count})), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = set(map(int, other.stdout.readline().split()))
        ours = {free_port() for _ in range(count)}
        other.communicate("\n")
    assert (len(theirs), len(ours)) == (count, count)
    assert not theirs & ours
