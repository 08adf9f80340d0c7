"""Both overlays on a real control plane: applied without a warning, ready, and disrupted and rolled within bounds."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import NAMESPACE, applied, pods, removed, until, workloads
from tests.contract.manifests import WORKLOADS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def unready(cluster, least=None):
    """What has not as many ready pods as it asks for, or fewer than its least."""
    missing = {}
    for name, item in workloads(cluster).items():
        wanted = max(item["spec"]["replicas"], (least or {}).get(name, 1))
        ready = item["status"].get("readyReplicas", 0)
        if ready < wanted:
            missing[name] = (ready, wanted)
    return missing


@pytest.mark.parametrize("name", ["local", "gke"])
def test_an_overlay_is_applied_without_a_warning_and_ready(control, name):
    try:
        assert "arning" not in applied(control, name)
        autoscalers = control.get(NAMESPACE, "horizontalpodautoscalers")["items"]
        least = {item["metadata"]["name"]: item["spec"]["minReplicas"] for item in autoscalers}
        assert set(least) == set(WORKLOADS)
        until(lambda: not unready(control, least), 120, lambda: unready(control, least))
        # A second time changes nothing: no controller and no default of the server fights with the manifests.
        before = {n: item["metadata"]["generation"] for n, item in workloads(control).items()}
        assert "arning" not in applied(control, name)
        assert {n: item["metadata"]["generation"] for n, item in workloads(control).items()} == before
    finally:
        removed(control)


@pytest.fixture(scope="module")
def gke(control):
    applied(control, "gke")
    autoscalers = control.get(NAMESPACE, "horizontalpodautoscalers")["items"]
    least = {item["metadata"]["name"]: item["spec"]["minReplicas"] for item in autoscalers}
    until(lambda: not unready(control, least), 120, lambda: unready(control, least))
    yield control
    removed(control)


def evicted(cluster, pod):
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": "trunkline"},
    }
    path = f"/api/v1/namespaces/trunkline/pods/{pod}/eviction"
    return cluster.kubectl("create", f"--raw={path}", "--filename=-", given=json.dumps(body), check=False)


@pytest.mark.parametrize("process", WORKLOADS)
def test_a_budget_lets_one_pod_go_and_no_second_one_while_that_is_missing(gke, process):
    def allowed():
        return gke.get(NAMESPACE, f"poddisruptionbudget/{process}")["status"].get("disruptionsAllowed") == 1

    until(allowed, 60, "the budget to allow one")
    nodes = [node["metadata"]["name"] for node in gke.get("nodes")["items"]]
    first, second = (pod["metadata"]["name"] for pod in pods(gke, process)[:2])
    gke.kubectl("cordon", *nodes)
    try:
        one = evicted(gke, first)
        assert one.returncode == 0, one.stderr
        refused = evicted(gke, second)
        assert refused.returncode
        assert "disruption budget" in refused.stderr
    finally:
        gke.kubectl("uncordon", *nodes)
    until(lambda: process not in unready(gke), 60, f"{process} again")


@pytest.mark.parametrize("process", WORKLOADS)
def test_a_rollout_keeps_as_many_ready_as_before(gke, process):
    before = workloads(gke)[process]
    kind, wanted = before["kind"].lower(), before["spec"]["replicas"]
    # A StatefulSet ends a pod before it makes the next one of its number.
    least = wanted - 1 if kind == "statefulset" else wanted
    assert until(lambda: workloads(gke)[process]["status"].get("readyReplicas") == wanted, 60, process)
    gke.kubectl("rollout", "restart", NAMESPACE, f"{kind}/{process}")
    seen = []

    def rolled():
        item = workloads(gke)[process]
        status = item["status"]
        seen.append(status.get("readyReplicas", 0))
        done = status.get("observedGeneration") == item["metadata"]["generation"]
        return done and status.get("updatedReplicas") == status["replicas"] == status.get("readyReplicas")

    until(rolled, 120, lambda: seen)
    assert len(seen) > 2
    assert min(seen) >= least
