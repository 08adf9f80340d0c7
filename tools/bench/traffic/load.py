"""Load for HTTP servers: wrk where it is installed, else a client of bare sockets in a process of its own.

`python -m tools.bench.traffic.load HOST PORT CONNECTIONS SECONDS REQUESTS [once | FRESH]` is that client.

What is sent is a list of webhooks in turn, or `Fresh` ones, each of which is another call's.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from trunkline_cli.suite.webhooks import Webhook

try:
    from uvloop import run
except ImportError:  # uvloop has no wheel everywhere
    from asyncio import run  # type: ignore[assignment]

run_loop = run
_LUA = """
local file = io.open("{bodies}", "r")
local requests = {{}}
for line in file:lines() do
  local signature, body = line:match("^(%S+) (.*)$")
  requests[#requests + 1] = wrk.format("POST", "{path}",
    {{["Signature"] = signature, ["Content-Type"] = "application/json"}}, body)
end
file:close()
local at = 0
request = function()
  at = at % #requests + 1
  return requests[at]
end
"""


_FRESH_LUA = """
local head, parts = {head}, {{{parts}}}
local lines = io.lines("{lines}")
request = function()
  local line = lines()
  if not line then
    lines = io.lines("{lines}")
    line = lines()
  end
  local id, signature = line:match("^(%S+) (%S+)$")
  return head .. signature .. "\\r\\n\\r\\n" .. table.concat(parts, id)
end
"""
_SIGNED_AT_ONCE = 20_000


@dataclass(frozen=True)
class Fresh:
    """Webhooks that differ in an id: a file holds the ids with their signatures, the client puts them together.

    So a minute of new webhooks takes 40 bytes of disk each, and none of the client's memory.
    """

    url: str
    parts: tuple[str, ...]
    """The body around its ids, which are equally long."""
    lines: Path
    """Of each webhook its id and its signature, in the order of sending; from the start again at the end."""

    @classmethod
    def signed(cls, sample: Webhook, its_id: str, secret: str, ids: Iterable[str], lines: Path) -> Self:
        """Make webhooks of a sample that holds `its_id`, signed as CallRail does."""
        parts = tuple(sample.body.decode().split(its_id))
        lines.parent.mkdir(parents=True, exist_ok=True)
        keyed = hmac.new(secret.encode(), digestmod=hashlib.sha1)

        def line(call_id: str) -> str:
            mac = keyed.copy()
            mac.update(call_id.join(parts).encode())
            return f"{call_id} {base64.b64encode(mac.digest()).decode()}\n"

        left = iter(ids)
        with lines.open("w") as file:
            while some := list(itertools.islice(left, _SIGNED_AT_ONCE)):
                file.writelines(map(line, some))
        return cls(sample.url, parts, lines)

    def head(self, target: str) -> str:
        """Return the head of each request up to its signature, which an empty line follows."""
        first = self.lines.open().readline().split()[0]
        parts = urlsplit(target)
        return (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Length: {len(first.join(self.parts))}\r\nContent-Type: application/json\r\nSignature: "
        )


@dataclass(frozen=True)
class Load:
    """What a client saw."""

    per_s: float
    p50_ms: float
    p99_ms: float
    answered: int
    errors: int  # answers that were not 2xx or 3xx, and sockets that failed


def saturate(
    webhooks: Sequence[Webhook] | Fresh,
    connections: int,
    seconds: float,
    scratch: Path,
    url: str | None = None,
) -> Load:
    """Send the webhooks in turn over `connections` as fast as they are answered; `url` sends them elsewhere."""
    target = url or (webhooks.url if isinstance(webhooks, Fresh) else webhooks[0].url)
    scratch.mkdir(parents=True, exist_ok=True)
    if shutil.which("wrk"):
        return _wrk(webhooks, connections, seconds, scratch, target)
    return _sockets(webhooks, connections, seconds, scratch, target)


def send_each(
    webhooks: Sequence[Webhook], connections: int, scratch: Path, seconds: float = 600
) -> subprocess.Popen[str]:
    """Start to send each webhook once, as fast as they are answered; the process prints a Load as JSON."""
    scratch.mkdir(parents=True, exist_ok=True)
    command = [*_sockets_command(webhooks, connections, seconds, scratch, webhooks[0].url), "once"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def start_flood(
    webhooks: Sequence[Webhook], connections: int, seconds: float, scratch: Path
) -> subprocess.Popen[str]:
    """Start to send the webhooks in turn, each connection as fast as it is answered; the process prints a Load."""
    scratch.mkdir(parents=True, exist_ok=True)
    command = _sockets_command(webhooks, connections, seconds, scratch, webhooks[0].url)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _wrk(
    webhooks: Sequence[Webhook] | Fresh, connections: int, seconds: float, scratch: Path, target: str
) -> Load:
    script = scratch / "post.lua"
    if isinstance(webhooks, Fresh):
        # What stands in JSON's quotes stands in Lua's: the sample is ASCII.
        parts = ", ".join(map(json.dumps, webhooks.parts))
        head = json.dumps(webhooks.head(target))
        script.write_text(_FRESH_LUA.format(head=head, parts=parts, lines=webhooks.lines))
    else:
        bodies = scratch / "bodies.txt"
        bodies.write_text("".join(f"{w.headers['signature']} {w.body.decode()}\n" for w in webhooks))
        script.write_text(_LUA.format(bodies=bodies, path=urlsplit(target).path))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", "-s", str(script), target]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    errors = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    errors += sum(
        int(n) for line in re.findall(r"Socket errors: (.*)", out) for n in re.findall(r"\d+", line)
    )
    return Load(
        per_s=float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),  # type: ignore[index]
        p50_ms=_ms(re.search(r"50%\s+([\d.]+)(us|ms|s)", out)),
        p99_ms=_ms(re.search(r"99%\s+([\d.]+)(us|ms|s)", out)),
        answered=int(re.search(r"(\d+) requests in", out)[1]),  # type: ignore[index]
        errors=errors,
    )


def _ms(match: re.Match[str] | None) -> float:
    assert match is not None
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]]


def _sockets(
    webhooks: Sequence[Webhook] | Fresh, connections: int, seconds: float, scratch: Path, target: str
) -> Load:
    command = _sockets_command(webhooks, connections, seconds, scratch, target)
    return Load(**json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def _sockets_command(
    webhooks: Sequence[Webhook] | Fresh, connections: int, seconds: float, scratch: Path, target: str
) -> list[str]:
    requests, more = scratch / "requests.json", []
    if isinstance(webhooks, Fresh):
        requests.write_text(json.dumps([webhooks.head(target), *webhooks.parts]))
        more = [str(webhooks.lines)]
    else:
        requests.write_text(json.dumps([raw_request(w, target).decode("latin-1") for w in webhooks]))
    parts = urlsplit(target)
    return [
        sys.executable, "-m", "tools.bench.traffic.load", str(parts.hostname), str(parts.port), str(connections),
        str(seconds), str(requests), *more,
    ]  # fmt: skip


def _put_together(head: str, parts: Sequence[str], lines: Path) -> Iterator[bytes]:
    while True:
        with lines.open() as file:
            for line in file:
                call_id, signature = line.split()
                yield (head + signature + "\r\n\r\n" + call_id.join(parts)).encode()


def raw_request(webhook: Webhook, target: str) -> bytes:
    """Return the webhook as the bytes of an HTTP request to that URL."""
    parts = urlsplit(target)
    head = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(webhook.body)}"]
    head += [f"{name}: {value}" for name, value in webhook.headers.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + webhook.body


def quiet(seconds: float = 1.0) -> None:
    """Let the machine settle between turns."""
    time.sleep(seconds)


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
    host, port, connections, seconds, file, *how = sys.argv[1:]
    given = json.loads(Path(file).read_text())
    fresh = _put_together(given[0], given[1:], Path(how[0])) if how and how != ["once"] else None
    requests = [] if fresh else [raw.encode("latin-1") for raw in given]
    times: list[float] = []
    errors: list[str] = []
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    made = []
    shared = iter(requests)
    for number in range(int(connections)):
        start = number * len(requests) // int(connections)
        mine = fresh or (shared if how else itertools.cycle(requests[start:] + requests[:start]))
        until = begun + float(seconds)
        connect = functools.partial(Connection, mine, until, times, errors)
        _, connection = await loop.create_connection(connect, host, int(port))
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
    run_loop(main())
