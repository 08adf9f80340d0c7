"""kube-score finds nothing in the manifests that is not meant, and each exception has its reason."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from tests.contract.manifests import built
from tools.install import FOLDER

# What it finds in a folder, by its check, and why that is meant.
MEANT = {
    "overlays/local": {
        "container-image-pull-policy": "images are built on the one node, and come from no registry",
        "deployment-strategy": "SQLite: the next process starts when the one before has let go of the file",
        "horizontalpodautoscaler-replicas": "SQLite: one process has the file; one node needs no second worker",
        "networkpolicy-targets-pod": "neither overlay brings a Redis; its policy holds for one of your own",
    },
    "overlays/gke": {
        "networkpolicy-targets-pod": (
            "the migrations' Jobs are applied by themselves, from k8s/migrations; Redis is as in local"
        ),
    },
    "components/prometheus-adapter": {},
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
        check["check"]["id"]: [item["object_name"], check["comments"]]
        for item in json.loads(told.stdout)
        for check in item["checks"]
        if not check["skipped"] and check["grade"] < _GOOD
    }
    assert {check: told for check, told in found.items() if check not in MEANT[folder]} == {}
    assert set(MEANT[folder]) <= set(found), "an exception that nothing needs any more"
