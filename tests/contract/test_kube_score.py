"""kube-score finds nothing in the manifests that is not meant, and each exception has its reason."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from tests.contract.manifests import built
from tools.install import FOLDER

_BUILT = "the image is built on the one node, and comes from no registry"
_ONE_FILE = "SQLite: the next process starts when the one before has let go of the file"
_ONE_PROCESS = "SQLite: one process has the file"
_NO_REDIS = "the Redis is one of your own, or Memorystore on GKE; the policy holds for one in the namespace"
_OF_OVERLAY = "the policy is in the overlay gke, which has to be applied once before the migrations"
# What it finds in a folder, by its check and the object, and why that is meant.
MEANT: dict[str, dict[tuple[str, str], str]] = {
    "overlays/local": {
        **{
            ("container-image-pull-policy", name): _BUILT
            for name in ("gateway", "worker", "tenant", "audio", "ai")
        },
        ("container-image-pull-policy", "envoy"): "a version never changes, so that a node pulls it once",
        **{("deployment-strategy", name): _ONE_FILE for name in ("tenant", "audio", "ai")},
        **{
            ("horizontalpodautoscaler-replicas", name): _ONE_PROCESS
            for name in ("gateway", "tenant", "audio", "ai")
        },
        ("horizontalpodautoscaler-replicas", "worker"): "the second one comes when jobs wait",
        ("horizontalpodautoscaler-replicas", "envoy"): "a second one on the same node would fall with it",
        ("networkpolicy-targets-pod", "redis"): _NO_REDIS,
    },
    "overlays/gke": {
        ("networkpolicy-targets-pod", "migrations-cloud"): "the Jobs are applied by themselves",
        ("networkpolicy-targets-pod", "redis"): _NO_REDIS,
    },
    "components/prometheus-adapter": {},
    "migrations": {
        ("pod-networkpolicy", f"migrate-{name}"): _OF_OVERLAY for name in ("gateway", "tenant", "audio", "ai")
    },
}
_GOOD = 10  # 7: almost, 5: a warning, 1: critical


@pytest.mark.parametrize("folder", MEANT)
def test_every_finding_is_meant(folder):
    tool = FOLDER / "kube-score"
    if not tool.exists():
        pytest.skip("kube-score is not installed: make tools installs it, with Go on the PATH")
    told = subprocess.run(
        [tool, "score", "--output-format=json", "--kubernetes-version=v1.34", "-"],
        input=yaml.safe_dump_all(built(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    found = {
        (check["check"]["id"], item["object_name"].rpartition("/")[2]): check["comments"]
        for item in json.loads(told.stdout)
        for check in item["checks"]
        if not check["skipped"] and check["grade"] < _GOOD
    }
    assert {which: told for which, told in found.items() if which not in MEANT[folder]} == {}
    assert set(MEANT[folder]) <= set(found), "an exception that nothing needs any more"
