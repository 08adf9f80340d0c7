"""Load for HTTP servers: wrk where it is installed, else a client of bare sockets in a process of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from trunkline_cli.suite.webhooks import Webhook

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


@dataclass(frozen=True)
class Load:
    """What a client saw."""

    per_s: float
    p50_ms: float
    p99_ms: float
    answered: int
    errors: int  # answers that were not 2xx or 3xx, and sockets that failed


def saturate(
    webhooks: Sequence[Webhook], connections: int, seconds: float, scratch: Path, url: str | None = None
) -> Load:
    """Send the webhooks in turn over `connections` as fast as they are answered; `url` sends them elsewhere."""
    target = url or webhooks[0].url
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


def _wrk(webhooks: Sequence[Webhook], connections: int, seconds: float, scratch: Path, target: str) -> Load:
    bodies = scratch / "bodies.txt"
    bodies.write_text("".join(f"{w.headers['signature']} {w.body.decode()}\n" for w in webhooks))
    script = scratch / "post.lua"
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
    webhooks: Sequence[Webhook], connections: int, seconds: float, scratch: Path, target: str
) -> Load:
    command = _sockets_command(webhooks, connections, seconds, scratch, target)
    return Load(**json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def _sockets_command(
    webhooks: Sequence[Webhook], connections: int, seconds: float, scratch: Path, target: str
) -> list[str]:
    requests = scratch / "requests.json"
    requests.write_text(json.dumps([raw_request(w, target).decode("latin-1") for w in webhooks]))
    parts = urlsplit(target)
    return [
        sys.executable, "-m", "tools.bench.sockets", str(parts.hostname), str(parts.port), str(connections),
        str(seconds), str(requests),
    ]  # fmt: skip


def raw_request(webhook: Webhook, target: str) -> bytes:
    """Return the webhook as the bytes of an HTTP request to that URL."""
    parts = urlsplit(target)
    head = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(webhook.body)}"]
    head += [f"{name}: {value}" for name, value in webhook.headers.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + webhook.body


def quiet(seconds: float = 1.0) -> None:
    """Let the machine settle between turns."""
    time.sleep(seconds)
