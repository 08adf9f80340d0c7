"""What watching costs: webhooks a second while they are traced and scraped, and how much there is to scrape.

The counters themselves are always on, so `observed_ratio` is what tracing takes (20 webhooks a second are exported, to
a collector in this process), and a scrape of the gateway in each turn: more than five times as often as the Prometheus
of deploy/ asks. Two gateways run, one of each kind, and are loaded in short turns; the ratio is the median of those of
the pairs, since two runs one after the other differ by more on any machine. `counted_us` and `decided_us` are what a
webhook's counters, and the decision whether it is traced, take of the processor. Then a thousand tenants get a webhook
each, and all five processes are scraped.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.processes import PORTS, Suite
from trunkline_cli.suite.seed import seed_tenant
from trunkline_gateway import ids, traces
from trunkline_gateway.edge.front import REQUESTS
from trunkline_gateway.hooks import receiver
from trunkline_gateway.hooks.traffic import Traffic
from trunkline_runtime.observe.sampling import Sampling

from tests.collector import Collector
from tools.bench import Target, report
from tools.bench.calls import INSTANT, NO_CEILING, QUIET_LOGS, percentile
from tools.bench.ingest import CONNECTIONS, FOLDER, WARM_SECONDS, Ingest, settle

TURNS = 16
TURN_SECONDS = 2.0
TENANTS = 1_000
SCRAPES = 20
TARGETS = {
    "observed_ratio": Target(">=", 0.95),
    "series": Target("<", 20_000),
    "scrape_ms": Target("<", 100),
}


@contextmanager
def gateway(folder: Path, collector: str = "") -> Iterator[Ingest]:
    """Run a gateway that has had its first webhooks; with a collector, it is traced."""
    told = {"TRUNKLINE_GATEWAY_OTLP_ENDPOINT": collector} if collector else {}
    shutil.rmtree(folder, ignore_errors=True)
    suite = Suite(folder, free_ports=True, env={**QUIET_LOGS, **NO_CEILING, **told})
    try:
        suite.start("tenant", "gateway")
        tenant = seed_tenant(suite.http_url, suite.operator_token, "bench", "http://127.0.0.1:9")
        bench = Ingest(suite, tenant.source("callrail"))
        bench.saturated(
            CONNECTIONS, WARM_SECONDS
        )  # the first rows of a new file cost more than all later ones
        yield bench
    finally:
        suite.stop()
        shutil.rmtree(folder, ignore_errors=True)  # gigabytes


def acknowledged(bench: Ingest, scraped: bool) -> float:
    """Webhooks a second in one turn, with a scrape in the middle of it or without."""
    url = f"{bench.suite.metrics_url()}/metrics"
    scraper = threading.Timer(TURN_SECONDS / 2, web.get, (url,))
    if scraped:
        scraper.start()
    per_s = bench.saturated(CONNECTIONS, TURN_SECONDS).per_s
    if scraped:
        scraper.join()
    return per_s


def observed() -> dict[str, float]:
    """Without and with, in turns, each first as often as the other: machines are noisy."""
    sides: tuple[list[float], list[float]] = ([], [])
    with Collector() as collector, gateway(FOLDER / "plain") as plain:
        with gateway(FOLDER / "watched", collector.url) as watched:
            for turn in range(TURNS):
                print(f"turn {turn + 1} of {TURNS}", file=sys.stderr, flush=True)
                for side in (0, 1) if turn % 2 else (1, 0):
                    sides[side].append(acknowledged((plain, watched)[side], scraped=side == 1))
        assert collector.spans(), "nothing was traced"
    without, with_ = map(statistics.median, sides)
    ratios = [one / other for other, one in zip(*sides, strict=True)]
    return {"unobserved_per_s": without, "observed_per_s": with_, "observed_ratio": statistics.median(ratios)}


def counted() -> dict[str, float]:
    """What a webhook's counters and the decision about its trace take of the processor, in millionths of a second."""
    traffic, accepted = Traffic(), receiver.RECEIPTS.labels("callrail", "accepted")
    begun, sampling = REQUESTS.labels("hooks"), Sampling()

    def count() -> None:
        begun.inc()
        accepted.inc()
        traffic.note("bench", "bench")
        receiver.SECONDS.observe(0.003)

    def decide() -> None:
        traces.is_sampled(ids.receipt_id(sampling.takes(receiver.HOOKS)))

    return {"counted_us": _least_us(count), "decided_us": _least_us(decide)}


def _least_us(work: Callable[[], None]) -> float:
    timer = timeit.Timer(work, timer=time.process_time)
    return min(timer.repeat(30, 2_000)) / 2_000 * 1e6


def scraped() -> dict[str, float]:
    """A webhook of each of many tenants, worked on; then how many series there are, and how long a scrape takes."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    suite = Suite(FOLDER, free_ports=True, env={**QUIET_LOGS, **NO_CEILING, **INSTANT})
    suite.start()
    try:

        def tell(number: int) -> None:
            tenant = seed_tenant(suite.http_url, suite.operator_token, f"t{number}", "http://127.0.0.1:9")
            source = tenant.source("callrail")
            payload = webhooks.callrail_call(source, str(700_000_000 + number), recorded=False)
            hook = webhooks.callrail(source, "post_call", payload)
            httpx.post(hook.url, content=hook.body, headers=dict(hook.headers)).raise_for_status()

        print(f"{TENANTS} tenants", file=sys.stderr, flush=True)
        with ThreadPoolExecutor(8) as tellers:
            list(tellers.map(tell, range(TENANTS)))
        settle(suite.metrics_url())
        time.sleep(20)  # the worker is at the calls
        series, times = 0, []
        with httpx.Client() as client:
            for name in PORTS:
                text = client.get(f"{suite.metrics_url(name)}/metrics").text
                series += sum(1 for line in text.splitlines() if line and not line.startswith("#"))
            for _ in range(SCRAPES):
                for name in PORTS:
                    begun = time.perf_counter()
                    client.get(f"{suite.metrics_url(name)}/metrics")
                    times.append((time.perf_counter() - begun) * 1000)
        return {"series": series, "scrape_ms": percentile(times, 0.95)}
    finally:
        suite.stop()


def main() -> None:
    """Measure the cost, then the size."""
    figures = {**counted(), **observed(), **scraped()}
    shutil.rmtree(FOLDER, ignore_errors=True)
    report("watch", figures, TARGETS)


if __name__ == "__main__":
    main()
