"""Each service's autoscaler, driven by the real controller on the metrics that it names, up and down within its bounds.

The metrics are the services' own, set in their registry and read from /metrics by the rules of the adapter. The pods
are kwok's, so the load does not fall when they come: a run says what is waited for, and when it is gone.
"""

from __future__ import annotations

import json
import os
import time

import pytest
from trunkline_audio.transcripts import waiting
from trunkline_gateway.edge.front import REQUESTS
from trunkline_gateway.jobs import depth
from trunkline_runtime.observe.metrics import MetricsEndpoint, RpcMetrics

from tests.cluster.conftest import applied, until
from tests.cluster.metrics_api import MetricsApi, services_of
from tests.cluster.plot import drawn
from tests.cluster.test_cluster_overlays import NAMESPACE, kind, pods
from tests.contract.manifests import PROCESSES, one, overlay
from tools.cluster.run import _free_port
from tools.packages import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
ANALYSE = "/trunkline.ai.v1.AnalysisService/AnalyzeCall"
HISTORY = ROOT / "docs" / "autoscaling.svg"


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
    port = _free_port()
    endpoint = MetricsEndpoint(f"127.0.0.1:{port}", "METRICS_ADDRESS")
    names = lambda app: [pod["metadata"]["name"] for pod in pods(control, app)]  # noqa: E731
    api = MetricsApi(f"http://127.0.0.1:{port}/metrics", tmp_path, names)
    control.apply(*services_of(api.port))
    # Five and ten minutes of calm before a pod goes are what production waits; the test waits for seconds.
    for process in PROCESSES:
        down = {
            "stabilizationWindowSeconds": 4,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 5}],
        }
        patch = [{"op": "replace", "path": "/spec/behavior/scaleDown", "value": down}]
        control.kubectl("patch", NAMESPACE, f"hpa/{process}", "--type=json", f"--patch={json.dumps(patch)}")
    yield control, Load(api)
    endpoint.close()
    api.close()
    control.kubectl("delete", "namespace", "trunkline", "--wait=true", "--timeout=120s")
    control.kubectl("delete", "persistentvolume", "--all", "--timeout=60s")


def test_each_autoscaler_goes_up_and_down_within_its_bounds(world):
    cluster, load = world
    began, history = time.monotonic(), []
    bounds = {p: one(overlay("gke"), "HorizontalPodAutoscaler", p)["spec"] for p in PROCESSES}

    def replicas():
        counts = {p: cluster.get(NAMESPACE, kind(p))["spec"]["replicas"] for p in PROCESSES}
        history.append((time.monotonic() - began, counts))
        for process, count in counts.items():
            assert count <= bounds[process]["maxReplicas"], process
        return counts

    def all_of(much):
        for process in PROCESSES:
            getattr(load, process)(much)

    all_of(False)
    until(lambda: all(replicas()[p] == bounds[p]["minReplicas"] for p in PROCESSES), 120, "the least of each")
    assert {p for p in PROCESSES if replicas()[p] < bounds[p]["minReplicas"]} == set()

    def grown():
        all_of(True)
        counts = replicas()
        return all(counts[p] > bounds[p]["minReplicas"] for p in PROCESSES) and counts["worker"] >= 28

    until(grown, 240, "more of each")
    all_of(False)
    until(
        lambda: all(replicas()[p] == bounds[p]["minReplicas"] for p in PROCESSES),
        300,
        "the least of each again",
    )
    for process in PROCESSES:
        counts = [counts[process] for _, counts in history]
        assert min(counts[len(counts) // 2 :]) >= bounds[process]["minReplicas"]
    if os.environ.get("PLOT"):
        HISTORY.write_text(drawn(history, {p: bounds[p]["maxReplicas"] for p in PROCESSES}))
