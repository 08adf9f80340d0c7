"""Build the control plane from the Go module proxy into .tools/kubernetes/: about five minutes of a processor, once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.packages import ROOT

KUBERNETES = "1.34.2"
KWOK = "0.8.0"
FOLDER = ROOT / ".tools" / "kubernetes"
BINARIES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
}
# How kwok plays a node and a pod: it makes the node, keeps its lease, makes pods ready, and deletes them.
STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-delete.yaml",
    "pod/fast/pod-complete.yaml",
)
_STAGING = re.compile(r"^\s*(k8s\.io/\S+) v0\.0\.0(?:\s|$)", re.MULTILINE)


class BuildError(Exception):
    """The control plane cannot be built here."""


def build() -> Path:
    """Build what is missing; return the folder. Raises BuildError without Go or the module proxy."""
    stages = FOLDER / "stages"
    if all((FOLDER / name).exists() for name in (*BINARIES, "kwok")) and stages.is_dir():
        return FOLDER
    if shutil.which("go") is None:
        raise BuildError("Go is not on the PATH, and the control plane is built with it")
    FOLDER.mkdir(parents=True, exist_ok=True)
    module = FOLDER / "module"
    if not (module / "tidy").exists():
        _write_module(module)
    for name, package in BINARIES.items():
        if not (FOLDER / name).exists():
            print(f"building {name}", flush=True)
            _go("build", "-trimpath", "-ldflags=-s -w", "-o", str(FOLDER / name), package, cwd=module)
    _kwok(stages)
    return FOLDER


def _write_module(module: Path) -> None:
    """Write a module that requires Kubernetes, and names its staging modules by their published versions."""
    shutil.rmtree(module, ignore_errors=True)
    module.mkdir(parents=True)
    (module / "go.mod").write_text(
        f"module cluster\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n"
    )
    told = _go("mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}", cwd=module)
    staging = sorted(set(_STAGING.findall(Path(json.loads(told)["GoMod"]).read_text())))
    version = "v0." + KUBERNETES.removeprefix("1.")
    replaced = "".join(f"replace {name} => {name} {version}\n" for name in staging)
    (module / "go.mod").write_text((module / "go.mod").read_text() + "\n" + replaced)
    imports = "".join(f'import _ "{package}"\n' for package in BINARIES.values())
    (module / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{imports}")
    _go("mod", "tidy", cwd=module)
    (module / "tidy").touch()


def _kwok(stages: Path) -> None:
    if not (FOLDER / "kwok").exists():
        print("building kwok", flush=True)
        _go("install", f"sigs.k8s.io/kwok/cmd/kwok@v{KWOK}", cwd=ROOT)
    told = json.loads(_go("mod", "download", "-json", f"sigs.k8s.io/kwok@v{KWOK}", cwd=ROOT))
    stages.mkdir(exist_ok=True)
    for stage in STAGES:
        text = (Path(told["Dir"]) / "kustomize" / "stage" / stage).read_text()
        (stages / Path(stage).name).write_text(text)


def _go(*arguments: str, cwd: Path) -> str:
    env = {**os.environ, "GOFLAGS": "-mod=mod", "GOBIN": str(FOLDER)}
    ran = subprocess.run(["go", *arguments], cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        raise BuildError(f"go {' '.join(arguments[:2])} failed")
    return ran.stdout


def main() -> int:
    """Build the control plane; 1 when that is not possible here."""
    try:
        print(f"in {build()}")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
