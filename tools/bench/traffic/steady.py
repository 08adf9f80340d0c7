"""An open-loop client: webhooks at a constant rate, however fast they are answered.

A time counts from the moment at which a webhook was due, so a server that stalls is charged for all whom it kept
waiting, not only for those already sent.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from trunkline_cli.suite.webhooks import Webhook

from tools.bench.traffic.load import Load, raw_request, run_loop

CONNECTIONS = 64
_TICK_SECONDS = 0.001
_LAST_ANSWERS_SECONDS = 10.0


def start_steady(
    webhooks: Sequence[Webhook], per_second: float, seconds: float, scratch: Path
) -> subprocess.Popen[str]:
    """Start to send the webhooks in turn at that rate; the process prints a Load as JSON."""
    scratch.mkdir(parents=True, exist_ok=True)
    file = scratch / "steady.json"
    file.write_text(json.dumps([raw_request(w, w.url).decode("latin-1") for w in webhooks]))
    address = webhooks[0].url.split("/")[2]
    command = [
        sys.executable,
        "-m",
        "tools.bench.traffic.steady",
        address,
        str(per_second),
        str(seconds),
        str(file),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> Load:
    """Wait for it and return what it saw."""
    out, _ = process.communicate()
    return Load(**json.loads(out))


class Pool:
    """Connections that carry one request at a time; what finds none free waits its turn, and its clock runs."""

    def __init__(self) -> None:
        self.idle: deque[Connection] = deque()
        self.due: deque[tuple[float, bytes]] = deque()
        self.times: list[float] = []
        self.errors = 0

    def send(self, due: float, request: bytes) -> None:
        """Send a request, now or as soon as a connection is free."""
        if self.idle:
            self.idle.popleft().send(due, request)  # in turn: a server closes one that is long unused
        else:
            self.due.append((due, request))

    def free(self, connection: Connection) -> None:
        """Give a connection its next request, if one is due."""
        if self.due:
            connection.send(*self.due.popleft())
        else:
            self.idle.append(connection)


class Connection(asyncio.Protocol):
    """One connection; an answer is its head and its content-length."""

    def __init__(self, pool: Pool):
        self.pool = pool
        self.buffer = b""
        self.asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.pool.free(self)

    def send(self, due: float, request: bytes) -> None:
        """Send one request that was due then."""
        self.asked = due
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = int(self.buffer[:end].lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        self.pool.times.append(time.perf_counter() - self.asked)
        self.pool.errors += self.buffer[9:10] != b"2"
        self.buffer = b""
        self.pool.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.pool.idle:
            self.pool.idle.remove(self)


async def main() -> None:
    """Send, and print what was seen as JSON."""
    address, rate, seconds, file = sys.argv[1:]
    host, _, port = address.rpartition(":")
    requests = itertools.cycle([raw.encode("latin-1") for raw in json.loads(Path(file).read_text())])
    total = int(float(rate) * float(seconds))
    pool = Pool()
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Connection(pool), host, int(port))
    gc.freeze()
    gc.disable()
    begun = time.perf_counter()
    sent = 0
    while sent < total:
        now = time.perf_counter()
        while sent < total and (due := begun + sent / float(rate)) <= now:
            pool.send(due, next(requests))
            sent += 1
        await asyncio.sleep(_TICK_SECONDS)
    until = time.perf_counter() + _LAST_ANSWERS_SECONDS
    while len(pool.times) < total and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    pool.times.sort()
    load = Load(
        per_s=len(pool.times) / (time.perf_counter() - begun),
        p50_ms=pool.times[len(pool.times) // 2] * 1000,
        p99_ms=pool.times[len(pool.times) * 99 // 100] * 1000,
        answered=len(pool.times),
        errors=pool.errors + total - len(pool.times),
    )
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    run_loop(main())
