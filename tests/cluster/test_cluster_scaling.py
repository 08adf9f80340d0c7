"""Each service's autoscaler, driven by the real controller on the metrics that it names, up and down within its bounds.

The metrics are the services' own, set in their registry and read from /metrics by the rules of the adapter. The pods
are kwok's, so the load does not fall when they come: a run says what is waited for, and when it is gone.
"""

from __future__ import annotations

import json
import os
import time

import pytest
from trunkline_audio import waiting
from trunkline_gateway.edge.front import REQUESTS
from trunkline_gateway.jobs import depth
from trunkline_runtime.observe.endpoint import MetricsEndpoint
from trunkline_runtime.observe.metrics import RpcMetrics

from tests.cluster.conftest import NAMESPACE, applied, pods, removed, until, workloads
from tests.cluster.metrics_api import MetricsApi, services_of
from tests.contract.manifests import WORKLOADS, one, overlay
from tools.cluster.run import free_port
from tools.packages import ROOT
from tools.watch.charts import scaling

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
ANALYSE = "/trunkline.ai.v1.AnalysisService/AnalyzeCall"
HISTORY = ROOT / "docs" / "autoscaling.svg"
# With this load, each has at least so many: what is waited for, divided by the target.
GROWN = {"gateway": 12, "worker": 29, "audio": 12, "ai": 8, "tenant": 8, "envoy": 10}
# How much faster than in production a pod goes here: the shares and counts of the policies stay.
FASTER = 12
# What two looks may lie apart, and a controller behind.
SLACK_SECONDS = 5.0


class Load:
    """What each service is asked to do, as its own metrics show it."""

    def __init__(self, api: MetricsApi):
        self.api = api
        self.calls = RpcMetrics("server")
        self.running = 0

    def gateway(self, much: bool) -> None:
        self.api.usage["gateway"] = 900 if much else 5
        if much:
            REQUESTS.labels("hooks").inc(40_000)

    def envoy(self, much: bool) -> None:
        self.api.usage["envoy"] = 1_500 if much else 5

    def worker(self, much: bool) -> None:
        depth.WAITING.labels("realtime").set(900 if much else 0)
        depth.OLDEST.labels("realtime").set(20 if much else 0)

    def audio(self, much: bool) -> None:
        waiting.WAITING.set(7_200 if much else 0)

    def ai(self, much: bool) -> None:
        while self.running < (60 if much else 0):
            self.calls.began(ANALYSE)
            self.running += 1
        while self.running > (60 if much else 0):
            self.calls.ended(ANALYSE, "OK", 0.1)
            self.running -= 1

    def tenant(self, much: bool) -> None:
        self.api.usage["tenant"] = 900 if much else 5


@pytest.fixture
def world(control, tmp_path):
    applied(control, "gke")
    endpoint = MetricsEndpoint(f"127.0.0.1:{free_port()}", "gateway", "METRICS_ADDRESS")
    api = MetricsApi(
        f"http://127.0.0.1:{endpoint.port}/metrics",
        tmp_path,
        lambda app: [pod["metadata"]["name"] for pod in pods(control, app)],
    )
    control.apply(*services_of(api.port))
    yield control, Load(api)
    control.kubectl("delete", "apiservice", "v1beta1.external.metrics.k8s.io", "v1beta1.metrics.k8s.io")
    removed(control)
    endpoint.close()
    api.close()


def test_each_autoscaler_goes_up_and_down_within_its_bounds_and_behaviour(world):
    cluster, load = world
    began, history = time.monotonic(), []
    specs = {p: one(overlay("gke"), "HorizontalPodAutoscaler", p)["spec"] for p in WORKLOADS}
    least = {p: spec["minReplicas"] for p, spec in specs.items()}

    def replicas():
        counts = {p: item["spec"]["replicas"] for p, item in workloads(cluster).items()}
        history.append((time.monotonic() - began, counts))
        for process, count in counts.items():
            assert count <= specs[process]["maxReplicas"], process
        return counts

    def put(much):
        for process in WORKLOADS:
            getattr(load, process)(much)

    def settled():
        put(False)
        return replicas() == least and not blind()

    def blind():
        """Autoscalers that do not see a metric that they name, and why."""
        found = {}
        for item in cluster.get(NAMESPACE, "horizontalpodautoscalers")["items"]:
            seen = [one for one in item["status"].get("currentMetrics") or [] if one.get("type")]
            states = {c["type"]: c for c in item["status"].get("conditions", [])}
            active = states.get("ScalingActive", {})
            if active.get("status") != "True" or len(seen) != len(item["spec"]["metrics"]):
                found[item["metadata"]["name"]] = active.get("message", "not looked yet")
        return found

    until(settled, 120, lambda: (history[-1], blind()))
    calm = len(history)

    def grown():
        put(True)
        counts = replicas()
        return all(counts[p] >= GROWN[p] for p in WORKLOADS)

    until(grown, 240, lambda: history[-1])
    top = replicas()
    for process, spec in specs.items():
        assert_no_faster(history[calm:], process, spec["behavior"]["scaleUp"])

    # In production nobody goes for five or ten minutes after the load has; the test looks at the first seconds of that.
    put(False)
    until_calm = time.monotonic() + 15
    while time.monotonic() < until_calm:
        counts = replicas()
        assert all(counts[p] >= top[p] for p in WORKLOADS), (counts, top)
        time.sleep(1)
    claims = cluster.get(NAMESPACE, "persistentvolumeclaims")["items"]
    for process, spec in specs.items():
        down = spec["behavior"]["scaleDown"]
        down["stabilizationWindowSeconds"] = 4
        for policy in down["policies"]:
            policy["periodSeconds"] //= FASTER
        patch = json.dumps([{"op": "replace", "path": "/spec/behavior/scaleDown", "value": down}])
        cluster.kubectl("patch", NAMESPACE, f"hpa/{process}", "--type=json", f"--patch={patch}")
    until(settled, 300, lambda: history[-1])
    for process in WORKLOADS:
        downwards = [counts[process] for _, counts in history[calm:]]
        assert min(downwards) == least[process]
        peak = downwards.index(max(downwards))
        assert downwards[peak:] == sorted(downwards[peak:], reverse=True), f"{process} went up without load"
    # A spool outlives the replica that wrote it.
    assert {c["metadata"]["name"] for c in cluster.get(NAMESPACE, "persistentvolumeclaims")["items"]} == {
        c["metadata"]["name"] for c in claims
    }
    assert len(claims) >= top["gateway"]
    if os.environ.get("PLOT"):
        HISTORY.write_text(scaling(history, {p: spec["maxReplicas"] for p, spec in specs.items()}))


def assert_no_faster(history, process, up):
    """No look shows more replicas than one of the policies allows after what was there its period before."""
    for seconds, counts in history:
        allowed = 0
        for policy in up["policies"]:
            since = seconds - policy["periodSeconds"] + SLACK_SECONDS
            before = [c[process] for at, c in history if at <= since] or [history[0][1][process]]
            more = before[-1] * policy["value"] // 100 if policy["type"] == "Percent" else policy["value"]
            allowed = max(allowed, before[-1] + more)
        assert counts[process] <= allowed, (process, seconds)
