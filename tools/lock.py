"""`make lock`: one constraints file for everything, one lock a package, a second one a service for Cloud Spanner.

They hold third parties only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.packages import ROOT, packages

REQUIREMENTS = ROOT / "requirements"
UV = Path(sys.executable).parent / "uv"


def compile_lock(sources: list[Path], out: Path, *more: str) -> None:
    """Resolve `sources` for every supported Python into `out`, without index addresses or headers."""
    command = [
        str(UV), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--no-header",
        "--no-emit-index-url", "--no-annotate", *more,
        *(str(path.relative_to(ROOT)) for path in sources), "-o", str(out.relative_to(ROOT)),
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT)


def main() -> int:
    """Write every lock."""
    projects = [package.folder / "pyproject.toml" for package in packages()]
    constraints = REQUIREMENTS / "constraints.txt"
    compile_lock([REQUIREMENTS / "constraints.in", REQUIREMENTS / "dev.in", *projects], constraints)
    held = ("-c", str(constraints.relative_to(ROOT)))
    compile_lock([REQUIREMENTS / "dev.in", *projects], REQUIREMENTS / "dev.txt", *held)
    compile_lock([REQUIREMENTS / "llama.in"], REQUIREMENTS / "llama.txt", "--no-deps", "--generate-hashes")
    for package in packages():
        own = [folder / "pyproject.toml" for folder in (*package.siblings, package.folder)]
        compile_lock(own, package.lock, *held)
        if package.spanner_lock:
            compile_lock(own, package.spanner_lock, "--extra", "spanner", *held)
    return 0


if __name__ == "__main__":
    sys.exit(main())
