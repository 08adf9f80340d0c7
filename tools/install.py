"""Real tools the tests use, from the Go module proxy into the ignored folder .tools/; without Go they are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.packages import ROOT

FOLDER = ROOT / ".tools"
GO_TOOLS = {
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3",
    "fake-gcs-server": "github.com/fsouza/fake-gcs-server@v1.56.1",
    "kube-score": "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
}
# Large, and used by a bench only, which installs it by itself.
BENCH_TOOLS = {"k6": "go.k6.io/k6@latest"}


def main() -> int:
    """Install what is missing; say what cannot be."""
    for name in GO_TOOLS:
        if install(name) is None:
            print(f"{name} is not installed: Go is not on the PATH; tests that need it are skipped")
    return 0


def install(name: str) -> Path | None:
    """Return a tool, installed unless it is there already; None where there is no Go to do that with."""
    module, tool = {**GO_TOOLS, **BENCH_TOOLS}[name], FOLDER / name
    if tool.exists():
        return tool
    if shutil.which("go") is None:
        return None
    print(f"installing {module}", flush=True)
    env = {**os.environ, "GOBIN": str(FOLDER), "GOFLAGS": "-mod=mod"}
    subprocess.run(["go", "install", module], check=True, env=env, cwd=ROOT)
    return tool


if __name__ == "__main__":
    sys.exit(main())
