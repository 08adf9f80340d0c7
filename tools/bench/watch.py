"""What watching costs: webhooks a second while they are traced and scraped, and how much there is to scrape.

The counters themselves are always on, so `observed_ratio` is what tracing takes (20 webhooks a second are exported, to
a collector in this process), and a scrape of the gateway every SCRAPE_SECONDS: three times as often as the Prometheus
of deploy/ asks. Both sides are measured in turns on suites of their own. Then a thousand tenants get a webhook each,
and all five processes are scraped.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.processes import PORTS, Suite
from trunkline_cli.suite.seed import seed_tenant

from tests.collector import Collector
from tools.bench import Target, report
from tools.bench.calls import INSTANT, NO_CEILING, QUIET_LOGS, percentile
from tools.bench.ingest import CONNECTIONS, FOLDER, SECONDS, Ingest, settle

TURNS = 5
SCRAPE_SECONDS = 5.0
TENANTS = 1_000
SCRAPES = 20
TARGETS = {
    "observed_ratio": Target(">=", 0.95),
    "series": Target("<", 20_000),
    "scrape_ms": Target("<", 100),
}


def acknowledged(folder: Path, collector: str = "") -> float:
    """Webhooks a second of a gateway of its own; with a collector, traced and scraped meanwhile."""
    traces = {"TRUNKLINE_GATEWAY_OTLP_ENDPOINT": collector} if collector else {}
    suite = Suite(folder, free_ports=True, env={**QUIET_LOGS, **NO_CEILING, **traces})
    suite.start("tenant", "gateway")
    ended = threading.Event()

    def scrape() -> None:
        while collector and not ended.wait(SCRAPE_SECONDS):
            httpx.get(f"{suite.metrics_url()}/metrics")

    scraper = threading.Thread(target=scrape)
    try:
        tenant = seed_tenant(suite.http_url, suite.operator_token, "bench", "http://127.0.0.1:9")
        bench = Ingest(suite, tenant.source("callrail"))
        bench.saturated(CONNECTIONS, 2.0)  # the first rows of a new file cost more than all later ones
        scraper.start()
        return bench.saturated(CONNECTIONS, SECONDS).per_s
    finally:
        ended.set()
        if scraper.ident is not None:
            scraper.join()
        suite.stop()


def observed() -> dict[str, float]:
    """Without, with, without, with: machines are noisy."""
    plain: list[float] = []
    watched: list[float] = []
    with Collector() as collector:
        for turn in range(TURNS):
            print(f"turn {turn + 1} of {TURNS}", file=sys.stderr, flush=True)
            for into, url in ((plain, ""), (watched, collector.url)):
                shutil.rmtree(FOLDER, ignore_errors=True)
                into.append(acknowledged(FOLDER, url))
        assert collector.spans(), "nothing was traced"
    without, with_ = statistics.median(plain), statistics.median(watched)
    return {"unobserved_per_s": without, "observed_per_s": with_, "observed_ratio": with_ / without}


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
    figures = {**observed(), **scraped()}
    shutil.rmtree(FOLDER, ignore_errors=True)
    report("watch", figures, TARGETS)


if __name__ == "__main__":
    main()
