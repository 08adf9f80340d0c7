"""How many webhooks a second are acknowledged and committed, as a ratio to a bare echo on the same server."""

from __future__ import annotations

import math
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.processes import Suite, SuiteError
from trunkline_cli.suite.seed import SeededSource, seed_tenant

from tools.bench import Target, report
from tools.bench.calls import NO_CEILING, QUIET_LOGS
from tools.bench.traffic.load import Fresh, Load, saturate
from tools.bench.traffic.steady import finished, start_steady

FOLDER = Path("build/bench/ingest")
CONNECTIONS = 64
SECONDS = 6.0
ECHO = "/echo"  # not a webhook's path: on the gateway's protocol too, the echo costs what the parser costs
TURNS = 3
# More than any machine answers in a second: so many new webhooks are signed for each second of load.
SIGNED_PER_S = 30_000
MINUTE = 60.0
WARM_SECONDS = 3.0
STEADY_PER_S = 2_000
STEADY_SECONDS = 20.0
WAL_SECONDS = 180.0
WAL_NEEDS_BYTES = 24 << 30
TARGETS = {
    "ingest_ratio": Target(">=", 0.45),
    "admitted_per_s": Target(">=", 8_000),
    "ingest_p99_ms": Target("<", 15),
    "steady_p99_ms": Target("<", 10),
    "admit_lag_s": Target("<", 1),
    "wal_max_mb": Target("<", 256),
    "errors": Target("==", 0),
    "lost": Target("==", 0),
}


@contextmanager
def echo_server(*options: str) -> Iterator[str]:
    """Serve the baseline, see echo.py for its options; yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen([sys.executable, "-m", "tools.bench.traffic.echo", address, *options])
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                httpx.post(f"http://{address}{ECHO}", content=b"{}")
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def signed(source: SeededSource, count: int, first: int = 800_000_000) -> list[webhooks.Webhook]:
    """That many different calls' post_call webhooks, about as large as CallRail's."""
    return [_post_call(source, f"{first + n}") for n in range(count)]


def _post_call(source: SeededSource, call_id: str) -> webhooks.Webhook:
    filler = {"landing_page_url": "https://example.com/" + "x" * 400, "keywords": "k" * 700}
    payload = webhooks.callrail_call(source, call_id, recorded=False, **filler)
    return webhooks.callrail(source, "post_call", payload)


def settle(metrics_url: str, seconds: float = 120.0) -> float:
    """Wait until all that was accepted is admitted, so that no turn pays for another; how long it took."""
    begun = time.monotonic()
    while admitted(metrics_url) < accepted(metrics_url):
        if time.monotonic() - begun > seconds:
            raise SuiteError("admission did not catch up")
        time.sleep(0.1)
    return time.monotonic() - begun


def accepted(metrics_url: str) -> int:
    """How many webhooks the gateway says it acknowledged."""
    return round(metric(metrics_url, 'trunkline_receipts_total{answer="accepted"'))


def admitted(metrics_url: str) -> int:
    """How many receipts were admitted."""
    return round(metric(metrics_url, "trunkline_admitted_total{"))


@dataclass
class Side:
    """What the turns saw at one number of connections."""

    echoes: list[Load] = field(default_factory=list)
    ingests: list[Load] = field(default_factory=list)

    def figures(self, prefix: str) -> dict[str, float]:
        """Medians; the ratio is the median of each turn's own."""
        turns = zip(self.ingests, self.echoes, strict=True)
        return {
            f"{prefix}_per_s": statistics.median(load.per_s for load in self.ingests),
            f"{prefix}_echo_per_s": statistics.median(load.per_s for load in self.echoes),
            f"{prefix}_ratio": statistics.median(ingest.per_s / echo.per_s for ingest, echo in turns),
            f"{prefix}_p50_ms": statistics.median(load.p50_ms for load in self.ingests),
            f"{prefix}_p99_ms": statistics.median(load.p99_ms for load in self.ingests),
        }


class Ingest:
    """One gateway process under load, beside its echo."""

    def __init__(self, suite: Suite, source: SeededSource):
        """The suite is up; every webhook tells of another call of the source."""
        self.suite, self.source = suite, source
        self._next_id = 100_000_000
        self.errors = 0
        self.catch_up: list[float] = []

    def fresh(self, seconds: float) -> Fresh:
        """New webhooks for so many seconds of load."""
        first, its_id = self._next_id, "987654321"
        self._next_id += round(seconds * SIGNED_PER_S)
        sample = _post_call(self.source, its_id)
        ids = map(str, range(first, self._next_id))
        return Fresh.signed(sample, its_id, self.source.secret, ids, FOLDER / "fresh.txt")

    def saturated(self, connections: int, seconds: float = SECONDS) -> Load:
        """Webhooks as fast as they are answered, then admission catches up."""
        load = saturate(self.fresh(seconds), connections, seconds, FOLDER)
        self.errors += load.errors
        self.catch_up.append(settle(self.suite.metrics_url()))
        return load

    def turns(self, connections: int, count: int = TURNS) -> Side:
        """Echo, ingest, echo, ingest: machines are noisy."""
        side = Side()
        any_ones = self.fresh(1)
        for turn in range(count):
            _say(f"{connections} connections, turn {turn + 1} of {count}")
            with echo_server() as url:
                side.echoes.append(saturate(any_ones, connections, SECONDS, FOLDER, url + ECHO))
            side.ingests.append(self.saturated(connections))
        return side

    def one_write_echo(self) -> Load:
        """The echo on the gateway's own protocol."""
        with echo_server("one-write") as url:
            return saturate(self.fresh(1), CONNECTIONS, SECONDS, FOLDER, url + ECHO)

    def minute(self) -> float:
        """How many webhooks a second are acknowledged and admitted in a minute that begins with saturation.

        The load lasts as long as leaves time to admit the rest, as the turns before took it: what is admitted is then
        what one could send each minute, for hours.
        """
        catch_up = statistics.median(self.catch_up)
        seconds = MINUTE * SECONDS / (SECONDS + catch_up)
        _say(f"a minute that begins with {seconds:.0f} s of saturation")
        fresh, before = self.fresh(seconds), admitted(self.suite.metrics_url())
        begun = time.monotonic()
        load = saturate(fresh, CONNECTIONS, round(seconds), FOLDER)
        self.errors += load.errors
        while time.monotonic() < begun + MINUTE:
            if admitted(self.suite.metrics_url()) >= accepted(self.suite.metrics_url()):
                break
            time.sleep(0.1)
        done = admitted(self.suite.metrics_url()) - before
        settle(self.suite.metrics_url())
        return done / MINUTE

    def steady(self) -> tuple[Load, float]:
        """A constant rate, and the longest that a receipt then waited for its admission, in seconds."""
        _say(f"{STEADY_PER_S} a second")
        hooks = signed(self.source, int(STEADY_PER_S * STEADY_SECONDS))
        process = start_steady(hooks, STEADY_PER_S, STEADY_SECONDS, FOLDER)
        lags = [0.0]
        while process.poll() is None:
            time.sleep(0.2)
            lags.append(metric(self.suite.metrics_url(), "trunkline_admission_lag_seconds"))
        load = finished(process)
        self.errors += load.errors
        return load, max(lags)

    def largest_wal(self) -> float:
        """Saturate for minutes; the most that the write-ahead log grew to, in MB."""
        free = shutil.disk_usage(FOLDER).free
        if free < WAL_NEEDS_BYTES:
            _say(f"no WAL figure: {free >> 30} GB free, {WAL_NEEDS_BYTES >> 30} needed")
            return math.nan
        _say(f"the write-ahead log under {WAL_SECONDS:.0f} s of saturation")
        sizes, fresh = [0], self.fresh(WAL_SECONDS)
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.1):
                sizes.append((FOLDER / "gateway.db-wal").stat().st_size)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            self.errors += saturate(fresh, CONNECTIONS, WAL_SECONDS, FOLDER).errors
        finally:
            done.set()
            watcher.join()
        return max(sizes) / 1e6


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def metric(metrics_url: str, name: str) -> float:
    """The sum of the gateway's samples whose line begins so."""
    lines = httpx.get(f"{metrics_url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def main() -> None:
    """Measure all of it on one gateway, the long saturation last, whose backlog nobody waits for."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    suite = Suite(FOLDER, free_ports=True, env={**QUIET_LOGS, **NO_CEILING})
    suite.start("tenant", "gateway")
    try:
        tenant = seed_tenant(suite.http_url, suite.operator_token, "bench", "http://127.0.0.1:9")
        bench = Ingest(suite, tenant.source("callrail"))
        # The first rows of a new file cost more than all later ones.
        bench.saturated(CONNECTIONS, WARM_SECONDS)
        bench.catch_up.clear()
        figures = bench.turns(CONNECTIONS).figures("ingest")
        catch_up = statistics.median(bench.catch_up)
        admitted_per_s = bench.minute()
        one_write = bench.one_write_echo().per_s
        figures |= bench.turns(256).figures("ingest_256")
        steady, lag = bench.steady()
        _say("with role work running")
        suite.start("worker")
        working = [bench.saturated(CONNECTIONS) for _ in range(TURNS)]
        wal = bench.largest_wal()
        acknowledged = accepted(suite.metrics_url())
    finally:
        suite.stop()
    with sqlite3.connect(FOLDER / "gateway.db") as store:
        (stored,) = store.execute("select count(*) from receipts").fetchone()
    shutil.rmtree(FOLDER)  # gigabytes
    figures["echo_per_s"] = figures.pop("ingest_echo_per_s")
    figures |= {
        "admitted_per_s": admitted_per_s,
        "admitted_ratio": admitted_per_s / figures["ingest_per_s"],
        "echo_one_write_per_s": one_write,
        "ingest_ratio_one_write": figures["ingest_per_s"] / one_write,
        "working_per_s": statistics.median(load.per_s for load in working),
        "working_p99_ms": statistics.median(load.p99_ms for load in working),
        "steady_p50_ms": steady.p50_ms,
        "steady_p99_ms": steady.p99_ms,
        "admit_lag_s": lag,
        "admit_catch_up_s": catch_up,
        "wal_max_mb": wal,
        "acknowledged": acknowledged,
        "stored": stored,
        "lost": acknowledged - stored,
        "errors": bench.errors,
    }
    report("ingest", figures, TARGETS)


if __name__ == "__main__":
    main()
