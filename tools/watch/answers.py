"""Whether a Prometheus answers what the dashboards, the recorded rules, and the alerts ask."""

from __future__ import annotations

import re

from tools.watch.alerts import ALERTS, RECORDED
from tools.watch.dashboards import DASHBOARDS
from tools.watch.prometheus import Prometheus

_METRIC = re.compile(r"\btrunkline_[a-z0-9_]+")
# What an alert asks for that has no series while all is well, and why.
SILENT = {
    "trunkline_set_aside_total": "counts by the kind of work, once a row was set aside",
    "trunkline_spool_damaged_total": "counts by what was damaged, once something was",
}


def unanswered(prometheus: Prometheus, window: str) -> list[str]:
    """Return each question that has no data, though no reason for it is listed.

    Of an alert, which is to have no answer, it is each metric that must be there. Raises PrometheusError for a question
    that Prometheus does not take.
    """
    missing = []
    for shown in DASHBOARDS:
        for panel in shown.panels:
            for query in panel.queries:
                if not prometheus.asked(query.asked(window)) and not query.silent:
                    missing.append(f"{shown.name}: {panel.title}: {query.text}")
    missing += [
        one.name
        for one in RECORDED
        if not prometheus.asked(one.name) and not set(_METRIC.findall(one.query)) & set(SILENT)
    ]
    for alert in ALERTS:
        prometheus.asked(alert.query)
        missing += [
            f"{alert.name}: {metric}"
            for metric in sorted(set(_METRIC.findall(alert.query)) - set(SILENT))
            if not prometheus.asked(f"count({metric})")
        ]
    return missing + [
        f"{rule['name']}: {rule.get('lastError')}" for rule in prometheus.rules() if rule["health"] == "err"
    ]
