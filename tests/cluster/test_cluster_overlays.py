"""Both overlays on a real control plane: applied without a warning, ready, and disrupted within budgets."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import applied, until
from tests.contract.manifests import PROCESSES

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
NAMESPACE = "--namespace=trunkline"


def kind(process):
    return f"{'statefulset' if process == 'gateway' else 'deployment'}/{process}"


def ready(cluster, process):
    found = cluster.get(NAMESPACE, kind(process))
    wanted = found["spec"]["replicas"]
    return wanted if found["status"].get("readyReplicas", 0) == wanted else 0


def pods(cluster, process):
    return cluster.get(NAMESPACE, "pods", f"--selector=app.kubernetes.io/name={process}")["items"]


@pytest.fixture(params=["local", "gke"])
def world(control, request):
    warned = applied(control, request.param)
    yield control, request.param, warned
    control.kubectl("delete", "namespace", "trunkline", "--wait=true", "--timeout=120s")
    control.kubectl("delete", "persistentvolume", "--all", "--timeout=60s")


def test_an_overlay_is_applied_ready_disrupted_and_rolled(world):
    cluster, name, warned = world
    assert "arning" not in warned
    for process in PROCESSES:
        until(lambda p=process: ready(cluster, p), 120, f"{name}: {process}")
    if name == "local":
        return
    for process in PROCESSES:
        bounds = cluster.get(NAMESPACE, f"hpa/{process}")["spec"]
        until(
            lambda p=process, b=bounds: ready(cluster, p) >= b["minReplicas"], 120, f"{process} at its least"
        )
    # A budget lets one go, and no second one while that is missing.
    first, second = (pod["metadata"]["name"] for pod in pods(cluster, "tenant")[:2])
    cluster.kubectl("cordon", *(f"node-{n}" for n in range(6)))
    assert evict(cluster, first).returncode == 0
    refused = evict(cluster, second)
    assert refused.returncode
    assert "disruption budget" in refused.stderr
    cluster.kubectl("uncordon", *(f"node-{n}" for n in range(6)))
    until(lambda: ready(cluster, "tenant"), 60, "tenant again")
    # A rollout never has fewer that are ready than before.
    least = ready(cluster, "tenant")
    cluster.kubectl("rollout", "restart", NAMESPACE, "deployment/tenant")
    seen = []

    def rolled():
        status = cluster.get(NAMESPACE, "deployment/tenant")["status"]
        seen.append(status.get("readyReplicas", 0))
        return status.get("updatedReplicas") == status.get("replicas") == status.get("readyReplicas")

    until(rolled, 120, "the rollout")
    assert min(seen) >= least


def evict(cluster, pod):
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": "trunkline"},
    }
    path = f"/api/v1/namespaces/trunkline/pods/{pod}/eviction"
    return cluster.kubectl("create", f"--raw={path}", "--filename=-", given=json.dumps(body), check=False)
