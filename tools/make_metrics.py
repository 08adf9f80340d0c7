"""Writes docs/metrics.md from the metrics that the code declares, and deploy/ from the rules over them."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.metric_declarations import ROOT, Declaration, declared
from tools.watch import grafana, rules
from tools.watch.alerts import ALERTS
from tools.watch.dashboards import DASHBOARDS

PAGE = ROOT / "docs" / "metrics.md"
_HEAD = """# Metrics

Each process serves its metrics in Prometheus' format at `/metrics` of its metrics address: 9090 (gateway), 9091
(tenant), 9092 (audio), 9093 (ai), and 9094 (worker), on loopback by default. `make settings` generates this page from
the code.

- Durations are in seconds. A counter's name ends in `_total`. A histogram has the series `_bucket`, `_sum`, and
  `_count`.
- Labels have few values. A metric with the label `tenant` or `source` shows the busiest ones of each process by name;
  all others share the value `other`.
- Where the table says *each shows all*, each process shows the state of the shared store. Take `max` of such a metric,
  and `sum` of all others.
- Processes that share a disk all show its size and its free bytes: take `min` of these, by `keeps`.
- Prometheus' settings in deploy/ add the label `process` to each series. The label `service` of
  `trunkline_breaker_state` names the called service.
- While another program has the port of a metrics address, the process works without metrics, logs
  `metrics_not_served`, and tries the port every three seconds.
"""
_ALERTS = """## Alerts

[deploy/prometheus/trunkline.rules.yaml](../deploy/prometheus/trunkline.rules.yaml) contains the rules, and
[prometheus.yaml](../deploy/prometheus/prometheus.yaml) the processes that Prometheus scrapes. A *page* needs attention
at once. A *ticket* can wait for the working day. The name of an alert links to its runbook.

Prometheus only detects alerts. Alertmanager sends them: [alertmanager.yaml](../deploy/prometheus/alertmanager.yaml)
sends pages at once and again each hour, and tickets once a day, as mail to `root@localhost`. Alerts of one name and
one tenant are one message, which contains the address of the runbook. Set your own receivers in your copy: see
[production.md](production.md#who-gets-the-alerts).

The rule `trunkline:month_budget_usd` sets the budget of the engines: set your own figure in your copy of the rules.
The annotation `runbook_url` of each alert begins with `https://docs.example.com/trunkline/runbooks`: replace this with
the address where your team reads the runbooks.

| alert | lasts | severity | meaning |
|---|---|---|---|"""
_DASHBOARDS = """## Dashboards

`make watch` serves the suite as `make up` does, and also runs a Prometheus with the rules. It prints the URL of
the Prometheus, `http://127.0.0.1:9095`, and keeps its data in `var/watch/`. `WATCH_PROMETHEUS=host:port` chooses
another address. If the program `grafana` is on the PATH, `make watch` also runs Grafana with the dashboards on port
3000, or on `WATCH_GRAFANA_PORT`. Ctrl-C stops everything.

[deploy/grafana](../deploy/grafana) has the dashboards, and `provisioning/` the files that make your own Grafana
load them: copy the JSON files to `/var/lib/grafana/dashboards/trunkline`, and set the `url` of the Prometheus.

The pictures show a suite during two and a half minutes of webhooks. `make pictures` draws them again, from the answers
of a real Prometheus.
"""
# What each process shows of a store that all of them share.
_SHARED = {
    "trunkline_jobs_waiting",
    "trunkline_jobs_oldest_seconds",
    "trunkline_dead_letters",
    "trunkline_audio_waiting_seconds",
    "trunkline_tenants_to_purge",
    "trunkline_tenants_over_quota",
    "trunkline_tenant_month_cost_micros",
}
PLACES = {
    "every process": "libs/",
    "gateway": "services/gateway/",
    "worker": "services/gateway/trunkline_gateway/pipeline/",
    "tenant": "services/tenant/",
    "audio": "services/audio/",
    "AI": "services/ai/",
    "the control plane of Envoys": "cli/",
}


def place_of(metric: Declaration) -> str:
    """Return which process shows a metric: the one of the longest folder that it is declared in."""
    module = str(metric.module)
    return max((len(folder), place) for place, folder in PLACES.items() if module.startswith(folder))[1]


def page() -> str:
    """Return docs/metrics.md."""
    parts = [_HEAD]
    for place in PLACES:
        rows = [
            f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {_told(one)} |"
            for one in declared()
            if place_of(one) == place
        ]
        if rows:
            head = "| metric | kind | labels | meaning |\n|---|---|---|---|"
            parts.append("\n".join([f"## {place[0].upper()}{place[1:]}\n", head, *rows, ""]))
    alerts = [
        f"| [{one.name}](runbooks/{one.runbook}.md) | {one.lasts} | {one.severity} | {one.summary} |"
        for one in ALERTS
    ]
    parts.append("\n".join([_ALERTS, *alerts, ""]))
    parts.append(_DASHBOARDS)
    for shown in DASHBOARDS:
        head = f"### {shown.title.split(': ')[1].capitalize()}"
        parts.append(f"{head}\n\n{shown.tells}\n\n![{shown.title}](dashboards/{shown.name}.svg)\n")
    return "\n".join(parts)


def _told(metric: Declaration) -> str:
    doc = metric.doc.rstrip(".").replace("|", "\\|")
    return f"{doc}; *each shows all*" if metric.name in _SHARED else doc


FILES = {PAGE: page, **rules.FILES, **grafana.FILES}


def main(check: bool) -> int:
    """Write, or compare with what is committed."""
    stale: list[Path] = [
        path for path, made in FILES.items() if not path.exists() or path.read_text() != made()
    ]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make settings`", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(FILES[path]())
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
