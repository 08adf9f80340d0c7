"""Four loads of webhooks with the real k6, while the worker runs: users x requests at a rate, and their p95."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from trunkline_cli.suite import webhooks

from tools.bench import Target, report
from tools.bench.calls import Bench, load, running
from tools.install import install
from tools.packages import ROOT

FOLDER = Path("build/bench/scenarios")
SCRIPT = ROOT / "tests" / "load" / "webhooks.js"


@dataclass(frozen=True)
class Scenario:
    """So many users send so many requests each, together at a rate a second, with a p95 in milliseconds."""

    users: int
    requests: int
    rate: int
    p95_ms: float


SCENARIOS = {
    "light": Scenario(users=10, requests=20, rate=50, p95_ms=200),
    "medium": Scenario(users=50, requests=40, rate=200, p95_ms=300),
    "heavy": Scenario(users=100, requests=100, rate=500, p95_ms=500),
    "stress": Scenario(users=200, requests=50, rate=300, p95_ms=1000),
}
TARGETS = {
    **{f"{name}_p95_ms": Target("<", scenario.p95_ms) for name, scenario in SCENARIOS.items()},
    "errors": Target("==", 0),
}
_ids = itertools.count(500_000_000)


def run(k6: Path, bench: Bench, name: str, scenario: Scenario) -> dict[str, float]:
    """What k6 saw; every call is a new one."""
    source = bench.tenant("acme").source("callrail")
    requests = []
    for _ in range(scenario.users * scenario.requests):
        call = webhooks.callrail_call(source, str(next(_ids)), recorded=False)
        hook = webhooks.callrail(source, "post_call", call)
        requests.append({"url": hook.url, "signature": hook.headers["signature"], "body": hook.body.decode()})
    file, summary = FOLDER / f"{name}.json", FOLDER / f"{name}.summary.json"
    file.write_text(json.dumps(requests))
    settings = {"FILE": file.absolute(), "SUMMARY": summary.absolute()}
    settings |= {"USERS": scenario.users, "RATE": scenario.rate}  # type: ignore[dict-item]
    given = [part for key, value in settings.items() for part in ("-e", f"{key}={value}")]
    subprocess.run([k6, "run", "--quiet", "--no-usage-report", *given, SCRIPT], check=True)
    seen: dict[str, float] = json.loads(summary.read_text())
    print(f"{name}: p95 {seen['p95_ms']:.1f} ms, {seen['requests']} requests", file=sys.stderr, flush=True)
    return seen


def main() -> None:
    """Run the four, one after another."""
    k6 = install("k6")
    if k6 is None:
        print("scenarios: k6 cannot be installed, Go is not on the PATH: nothing was measured")
        return
    figures: dict[str, float] = {"load_before": load()}
    errors = 0.0
    with running(FOLDER, {}) as bench:
        for name, scenario in SCENARIOS.items():
            seen = run(k6, bench, name, scenario)
            figures[f"{name}_p95_ms"] = seen["p95_ms"]
            errors += seen["failed"] + seen["dropped"]
    report("scenarios", {**figures, "errors": errors}, TARGETS)


if __name__ == "__main__":
    main()
