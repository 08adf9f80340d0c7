"""One control plane for the folder's tests, with the definitions of others' kinds."""

from __future__ import annotations

import shutil
import time

import pytest

from tests.contract.manifests import WORKLOADS, overlay
from tools.cluster.build import BINARIES, FOLDER
from tools.cluster.run import Cluster, control_plane
from tools.packages import ROOT

NAMESPACE = "--namespace=trunkline"
FOREIGN = {
    "Certificate": ("cert-manager.io", "v1", "certificates"),
    "Issuer": ("cert-manager.io", "v1", "issuers"),
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


def until(done, seconds: float, what):
    """Wait for something; return what it gives. `what` is what is missing then, or tells it."""
    last = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > last:
            raise AssertionError(f"not within {seconds:.0f} s: {what() if callable(what) else what}")
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
    cluster.apply(*(item for item in objects if item["kind"] in ("Namespace", "StorageClass")))
    # Nothing makes volumes here.
    classes = {"": 8} if name == "local" else {"trunkline-spool": 16}
    cluster.apply(*(volume(name, number, of) for of, count in classes.items() for number in range(count)))
    return cluster.kubectl("apply", "--server-side", "--kustomize", str(ROOT / "k8s/overlays" / name)).stderr


def volume(name: str, number: int, storage_class: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{name}-{number}"},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": f"/{name}-{number}"},
            "storageClassName": storage_class,
        },
    }


def removed(cluster: Cluster) -> None:
    """Take an overlay away again."""
    cluster.kubectl("delete", "namespace", "trunkline", "--wait=true", "--timeout=120s")
    cluster.kubectl("delete", "persistentvolume", "--all", "--timeout=60s")


def workloads(cluster: Cluster) -> dict[str, dict]:
    """Each process's Deployment or StatefulSet, as it is now."""
    items = cluster.get(NAMESPACE, "deployments,statefulsets")["items"]
    found = {item["metadata"]["name"]: item for item in items}
    assert set(found) == set(WORKLOADS)
    return found


def pods(cluster: Cluster, process: str) -> list[dict]:
    """The pods of a process that are not on their way out."""
    found = cluster.get(NAMESPACE, "pods", f"--selector=app.kubernetes.io/name={process}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
