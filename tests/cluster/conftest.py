"""One control plane for the folder's tests, with the definitions of others' kinds."""

from __future__ import annotations

import shutil
import time

import pytest

from tests.contract.manifests import overlay
from tools.cluster.build import BINARIES, FOLDER
from tools.cluster.run import Cluster, control_plane

FOREIGN = {
    "Certificate": ("cert-manager.io", "v1", "certificates"),
    "Gateway": ("gateway.networking.k8s.io", "v1", "gateways"),
    "HTTPRoute": ("gateway.networking.k8s.io", "v1", "httproutes"),
    "HealthCheckPolicy": ("networking.gke.io", "v1", "healthcheckpolicies"),
    "PodMonitoring": ("monitoring.googleapis.com", "v1", "podmonitorings"),
    "SecretProviderClass": ("secrets-store.csi.x-k8s.io", "v1", "secretproviderclasses"),
}


def definition(kind: str) -> dict:
    """A kind of another project, by name only: its fields are that project's business."""
    group, version, plural = FOREIGN[kind]
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # Groups of Kubernetes' own projects want to know that somebody approved.
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in of a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
            ],
        },
    }


def until(done, seconds: float, what: str):
    """Wait for something; return what it gives."""
    last = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < last, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="session")
def control(tmp_path_factory) -> Cluster:
    if not all((FOLDER / name).exists() for name in (*BINARIES, "kwok")) or shutil.which("kubectl") is None:
        pytest.skip("no control plane: make cluster-test builds it, with Go and kubectl on the PATH")
    with control_plane(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.apply(*(definition(kind) for kind in FOREIGN))
        cluster.kubectl("wait", "--for=condition=established", "--timeout=60s", "crd", "--all")
        yield cluster


def applied(cluster: Cluster, name: str) -> str:
    """Apply an overlay server-side, its namespace first; return what was warned of."""
    objects = overlay(name)
    cluster.apply(*(item for item in objects if item["kind"] == "Namespace"))
    volumes = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{name}-{number}"},
            "spec": {
                "capacity": {"storage": "100Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": f"/{name}-{number}"},
                **({"storageClassName": "trunkline-spool"} if name == "gke" else {}),
            },
        }
        for number in range(20)
    ]
    cluster.apply(*volumes)
    from tools.packages import ROOT

    told = cluster.kubectl("apply", "--server-side", "--kustomize", str(ROOT / "k8s/overlays" / name))
    return told.stderr
