"""How many webhooks a second are acknowledged and committed, as a ratio to a bare echo on the same server."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tools.bench.load import Load, saturate
from tools.bench.report import Target, report
from tools.suite import webhooks
from tools.suite.processes import Suite, SuiteError
from tools.suite.seed import SeededSource, seed_tenant

FOLDER = Path("build/bench/ingest")
CONNECTIONS = 64
SECONDS = 6.0
TURNS = 3
DISTINCT = 4_000
TARGETS = {
    "ingest_ratio": Target(">=", 0.40),
    "ingest_p99_ms": Target("<", 20),
    "errors": Target("==", 0),
    "lost": Target("==", 0),
}


@contextmanager
def echo_server() -> Iterator[str]:
    """Serve the baseline; yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen([sys.executable, "-m", "tools.bench.echo", address])
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                httpx.post(f"http://{address}/hooks/x/y", content=b"{}")
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def signed(source: SeededSource, count: int, first: int = 800_000_000) -> list[webhooks.Webhook]:
    """That many different calls' post_call webhooks, about as large as CallRail's."""
    filler = {"landing_page_url": "https://example.com/" + "x" * 400, "keywords": "k" * 700}
    return [
        webhooks.callrail(
            source,
            "post_call",
            webhooks.callrail_call(source, f"{first + n}", recorded=False, **filler),
        )
        for n in range(count)
    ]


def admitted(http_url: str) -> int:
    """How many receipts were admitted."""
    lines = httpx.get(f"{http_url}/metrics").text.splitlines()
    return round(sum(float(x.split()[-1]) for x in lines if x.startswith("trunkline_admitted_total{")))


def settle(http_url: str, seconds: float = 120.0) -> float:
    """Wait until all that was accepted is admitted, so that no turn pays for another; how long it took."""
    begun = time.monotonic()
    while admitted(http_url) < accepted(http_url):
        if time.monotonic() - begun > seconds:
            raise SuiteError("admission did not catch up")
        time.sleep(0.1)
    return time.monotonic() - begun


def accepted(http_url: str) -> int:
    """How many webhooks the gateway says it acknowledged."""
    lines = httpx.get(f"{http_url}/metrics").text.splitlines()
    return round(
        sum(
            float(x.split()[-1])
            for x in lines
            if x.startswith("trunkline_receipts_total{") and 'answer="accepted"' in x
        )
    )


def main() -> None:
    """Take turns, and report medians."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    suite = Suite(FOLDER, free_ports=True, env={"TRUNKLINE_GATEWAY_LOG_LEVEL": "warning"})
    suite.start("tenant", "gateway")
    try:
        tenant = seed_tenant(suite.http_url, suite.operator_token, "bench", "http://127.0.0.1:9")
        hooks = signed(tenant.source("callrail"), DISTINCT)
        echoes: list[Load] = []
        ingests: list[Load] = []
        catch_up: list[float] = []
        for turn in range(TURNS):
            print(f"turn {turn + 1} of {TURNS}", file=sys.stderr, flush=True)
            with echo_server() as url:
                echoes.append(saturate(hooks, CONNECTIONS, SECONDS, FOLDER, url + "/hooks/x/y"))
            ingests.append(saturate(hooks, CONNECTIONS, SECONDS, FOLDER))
            catch_up.append(settle(suite.http_url))
        acknowledged = accepted(suite.http_url)
    finally:
        suite.stop()
    with sqlite3.connect(FOLDER / "gateway.db") as store:
        (stored,) = store.execute("select count(*) from receipts").fetchone()
    rate, baseline = (statistics.median(load.per_s for load in side) for side in (ingests, echoes))
    figures = {
        "ingest_per_s": rate,
        "echo_per_s": baseline,
        "ingest_ratio": statistics.median(i.per_s / e.per_s for i, e in zip(ingests, echoes, strict=True)),
        "ingest_p50_ms": statistics.median(load.p50_ms for load in ingests),
        "ingest_p99_ms": statistics.median(load.p99_ms for load in ingests),
        "acknowledged": acknowledged,
        "stored": stored,
        "lost": acknowledged - stored,
        "admit_catch_up_s": statistics.median(catch_up),
        "errors": sum(load.errors for load in ingests),
    }
    report("ingest", figures, TARGETS)


if __name__ == "__main__":
    main()
