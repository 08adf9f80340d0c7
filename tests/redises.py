"""A real Redis on a free port, started by tests and benches. Without redis-server tests are skipped, and fail in CI."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = shutil.which("redis-server")


def needed() -> str:
    """The path of redis-server; skips the test on a machine without it, and fails it in CI."""
    if SERVER is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not here")
        pytest.skip("redis-server is not here")
    return SERVER


def started(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start one that keeps nothing on the disk; it answers when this returns."""
    command = [needed(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run one; yields its URL, and the process to stop."""
    port = free_port()
    process = started(port, folder)
    try:
        yield f"redis://127.0.0.1:{port}/0", process
    finally:
        process.terminate()
        process.wait()
