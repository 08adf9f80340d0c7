"""A load client of bare sockets, one request at a time on each connection, for machines without wrk."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tools.bench.load import Load

try:
    from uvloop import run
except ImportError:  # uvloop has no wheel everywhere
    from asyncio import run


class Connection(asyncio.Protocol):
    """Sends the next request as soon as an answer is whole; an answer is its head and its content-length."""

    def __init__(self, requests: Iterator[bytes], until: float, times: list[float], errors: list[str]):
        """Share `times` and `errors` with the other connections."""
        self.requests, self.until, self.times, self.errors = requests, until, times, errors
        self.closed = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.sent = time.perf_counter()
        request = next(self.requests, None) if self.sent <= self.until else None
        if request is None:
            self.transport.close()
            return
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        length = int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        if head[9:10] not in b"23":
            self.errors.append(head[9:12].decode())
        self.buffer = b""
        self.times.append(time.perf_counter() - self.sent)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.errors.append(str(exc))
        self.closed.set_result(None)


async def main() -> None:
    """Load, and print what was seen as JSON; `once` as the last argument sends each request a single time."""
    host, port, connections, seconds, file, *once = sys.argv[1:]
    requests = [raw.encode("latin-1") for raw in json.loads(Path(file).read_text())]
    times: list[float] = []
    errors: list[str] = []
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    made = []
    shared = iter(requests)
    for number in range(int(connections)):
        start = number * len(requests) // int(connections)
        mine = shared if once else itertools.cycle(requests[start:] + requests[:start])
        until = begun + float(seconds)
        _, connection = await loop.create_connection(
            lambda m=mine, u=until: Connection(m, u, times, errors), host, int(port)
        )
        made.append(connection.closed)
    await asyncio.gather(*made)
    taken = time.perf_counter() - begun
    times.sort()
    load = Load(
        per_s=len(times) / taken,
        p50_ms=times[len(times) // 2] * 1000,
        p99_ms=times[len(times) * 99 // 100] * 1000,
        answered=len(times),
        errors=len(errors),
    )
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    run(main())
