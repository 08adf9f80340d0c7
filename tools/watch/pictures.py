"""`make pictures`: docs/dashboards/*.svg, from a suite under two minutes of real webhooks and its Prometheus."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.demo import CALLS, webhook_of
from trunkline_cli.suite.processes import Suite, free_port
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import SeededTenant, api, seed_tenant

from tools.install import install_from_debian
from tools.metric_declarations import ROOT
from tools.watch.charts import Line, dashboard
from tools.watch.dashboards import DASHBOARDS, Panel
from tools.watch.prometheus import Prometheus

FOLDER = Path("build/watch")
PICTURES = ROOT / "docs" / "dashboards"
SECONDS = 150.0
EVERY = 2
"""Seconds between scrapes; a rate is over ten of them."""
WINDOW = "20s"
# Calls without a recording a second, while they come at all; every so often one has a recording.
MOST_PER_S = 6.0
RECORDED_EVERY_S = 8.0
TENANTS = ("acme", "globex", "initech", "umbrella")
_LABEL = re.compile(r"\{\{(\w+)\}\}")


def lines(prometheus: Prometheus, panel: Panel, begin: float, end: float) -> list[Line]:
    """Return what a panel shows of a time; values that are no numbers are left out."""
    shown: list[Line] = []
    for query in panel.queries:
        for series in prometheus.asked_over(query.asked(WINDOW), begin, end, EVERY):
            labels = series.labels
            name = _LABEL.sub(lambda found, labels=labels: labels.get(found[1], ""), query.legend)  # type: ignore[misc]
            points = [(at, value) for at, value in series.values if not math.isnan(value)]
            if points:
                shown.append((name, points))
    return shown


def drive(suite: Suite, tenants: Sequence[SeededTenant], recordings: RecordingServer, seconds: float) -> None:
    """Post webhooks that come and go, some with a recording, a few with a wrong signature; read the API meanwhile."""
    chance = random.Random(15)  # the same traffic each time
    samples = _samples(tenants, recordings)
    begun, recorded, number = time.monotonic(), 0.0, 0
    with web.client(timeout=10) as client:
        while (now := time.monotonic() - begun) < seconds:
            number += 1
            # The first tenant is the busiest.
            tenant = chance.choices(tenants, weights=[8, 4, 2, 1])[0]
            call = webhooks.callrail_call(
                tenant.source("callrail"), f"{600_000_000 + number}", recorded=False
            )
            hook = webhooks.callrail(tenant.source("callrail"), "post_call", call)
            wrong = {**hook.headers, "signature": "d3Jvbmc="} if chance.random() < 0.02 else hook.headers
            for _ in range(2 if chance.random() < 0.05 else 1):  # providers deliver some twice
                client.post(hook.url, content=hook.body, headers=wrong)
            if now - recorded >= RECORDED_EVERY_S:
                recorded = now
                hook = next(samples)
                client.post(hook.url, content=hook.body, headers=hook.headers)
            if number % 5 == 0:
                with api(suite.http_url, tenant.api_key) as reader:
                    reader.get(f"/v1/tenants/{tenant.name}/{chance.choice(['calls', 'events', 'leads'])}")
            busy = 0.35 + 0.65 * (0.5 - 0.5 * _wave(now / seconds))
            time.sleep(chance.expovariate(MOST_PER_S * busy))


def _wave(part: float) -> float:
    """1 at the beginning and the end, -1 in the middle."""
    return 1 - 4 * min(part, 1 - part)


def _samples(tenants: Sequence[SeededTenant], recordings: RecordingServer) -> Iterator[webhooks.Webhook]:
    samples = [
        one for one in json.loads((CALLS / "calls.json").read_text()) if one["language"].startswith("en")
    ]
    index = 0
    while True:
        for sample in samples:
            yield webhook_of(sample, index, tenants[index % len(tenants)], recordings)[1]
            index += 1


def main() -> int:
    """Draw them; 1 where there is no Prometheus."""
    program = install_from_debian("prometheus")
    if program is None:
        print("prometheus is not installed, and apt-get cannot fetch it", file=sys.stderr)
        return 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    env = {"TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8"}
    suite = Suite(FOLDER / "suite", free_ports=True, env=env)
    with RecordingServer(each_differs=True) as recordings:
        try:
            suite.start()
            tenants = [
                seed_tenant(suite.http_url, suite.operator_token, name, recordings.url) for name in TENANTS
            ]
            for source in (source for tenant in tenants for source in tenant.sources):
                recordings.tokens.add(source.credential)
                recordings.accounts[source.account] = source.secret
            address = f"127.0.0.1:{free_port()}"
            with Prometheus(program, FOLDER / "prometheus", suite.metrics, address, EVERY) as prometheus:
                threading.Event().wait(2 * EVERY)
                begin = time.time() + 2 * EVERY
                drive(suite, tenants, recordings, SECONDS)
                end = time.time()
                PICTURES.mkdir(parents=True, exist_ok=True)
                for shown in DASHBOARDS:
                    answers = {one.title: lines(prometheus, one, begin, end) for one in shown.panels}
                    path = PICTURES / f"{shown.name}.svg"
                    path.write_text(dashboard(shown, answers, begin, end))
                    print(f"wrote {path.relative_to(ROOT)}")
        finally:
            suite.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
