"""The real fake-gcs-server as a process, and a line to it that a test can cut."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import google.cloud.storage  # noqa: F401 -- so that no test's deadline has to wait for it
import pytest

from tools.install import FOLDER

BUCKET = "recordings"


def binary() -> Path:
    """The server; a visible skip where there is no Go to install it with."""
    path = FOLDER / "fake-gcs-server"
    if not path.exists():
        if os.environ.get("CI") == "true" and shutil.which("go"):
            pytest.fail("fake-gcs-server is not in .tools/ although Go is on the PATH: make tools")
        pytest.skip("fake-gcs-server is not installed (no Go?): make tools")
    return path


@contextlib.contextmanager
def served(folder, seed=None):
    """A server with one empty bucket, and one for each folder under `seed` with its files; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        binary(), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory",
        "-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}", "-log-level", "error",
    ]  # fmt: skip
    command += ["-data", seed] if seed else []
    with (folder / "fake-gcs.log").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                line.request(
                    "POST",
                    "/storage/v1/b?project=p",
                    f'{{"name": "{BUCKET}"}}',
                    {"Content-Type": "application/json"},
                )
                assert line.getresponse().status == 200
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Line:
    """A TCP line to a server. `most` is how many bytes pass towards it on one connection before it is cut, `cuts` how
    often that happens; `passed` counts the connections."""

    def __init__(self, url: str) -> None:
        self._to = int(url.rpartition(":")[2])
        self.most: int | None = None
        self.cuts = 0
        self.cut = 0
        self.passed = 0
        self.reached = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self.passed += 1
        there, out = await asyncio.open_connection("127.0.0.1", self._to)
        back = asyncio.create_task(self._back(there, writer))
        sent = 0
        try:
            while piece := await reader.read(65536):
                sent += len(piece)
                if self.most is not None and sent > self.most and self.cut < self.cuts:
                    self.cut += 1
                    self.reached.set()
                    break
                out.write(piece)
                await out.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            back.cancel()
            out.transport.abort()
            writer.transport.abort()
            self._tasks.discard(task)

    async def _back(self, there, writer):
        with contextlib.suppress(ConnectionError):
            while piece := await there.read(65536):
                writer.write(piece)
                await writer.drain()
            writer.close()
