"""Real tools the tests use, from the Go module proxy into the ignored folder .tools/; without Go they are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tools.packages import ROOT

FOLDER = ROOT / ".tools"
GO_TOOLS = {"grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"}


def main() -> int:
    """Install what is missing; say what cannot be."""
    for name, module in GO_TOOLS.items():
        if (FOLDER / name).exists():
            continue
        if shutil.which("go") is None:
            print(f"{name} is not installed: Go is not on the PATH; tests that need it are skipped")
            continue
        print(f"installing {module}", flush=True)
        env = {**os.environ, "GOBIN": str(FOLDER), "GOFLAGS": "-mod=mod"}
        subprocess.run(["go", "install", module], check=True, env=env, cwd=ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
