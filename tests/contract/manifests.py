"""The manifests as kustomize builds them, and the suite's settings, for the tests that compare both."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml
from trunkline_ai.config import AiConfig
from trunkline_audio.config import AudioConfig
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_runtime.config import declared
from trunkline_tenant.config import TenantConfig

from tools.packages import ROOT

OVERLAYS = ("local", "gke")
# A process of the suite, its settings' class, and the package that its image runs.
PROCESSES = {
    "gateway": GatewayConfig,
    "worker": WorkerConfig,
    "tenant": TenantConfig,
    "audio": AudioConfig,
    "ai": AiConfig,
}
ENVOY = "envoy"
WORKLOADS = (*PROCESSES, ENVOY)
Object = dict[str, Any]


def variables_of(process: str) -> set[str]:
    """The variables that a process takes, with those that name a secret's file."""
    return set().union(*(one.names for one in declared(PROCESSES[process], process)))


@cache
def built(folder: str) -> list[Object]:
    """The objects of a folder under k8s/."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on the PATH")
    told = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s" / folder)], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")
    return [one for one in yaml.safe_load_all(told.stdout) if one]


def overlay(name: str) -> list[Object]:
    return built(f"overlays/{name}")


def one(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def workload(objects: list[Object], name: str) -> Object:
    return one(objects, "StatefulSet" if name == "gateway" else "Deployment", name)


def pod(objects: list[Object], name: str) -> Object:
    spec: Object = workload(objects, name)["spec"]["template"]["spec"]
    return spec


def container(objects: list[Object], name: str) -> Object:
    (only,) = pod(objects, name)["containers"]
    return dict(only)


def environment(objects: list[Object], name: str) -> dict[str, str]:
    return {item["name"]: item.get("value", "") for item in container(objects, name)["env"]}


def setting(objects: list[Object], name: str, field: str) -> Any:
    """What a process is told: by its manifest, else by its default; None of what is no setting of it."""
    given = environment(objects, name).get(f"TRUNKLINE_{name.upper()}_{field.upper()}")
    if given is not None:
        return given
    wanted = f"TRUNKLINE_{name.upper()}_{field.upper()}"
    return next((s.default for s in declared(PROCESSES[name], name) if s.name == wanted), None)
