"""`make images`: an image for each service, with docker, podman, or buildah, whichever is here."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from tools.packages import ROOT

SERVICES = ("gateway", "tenant", "audio", "ai")
DOCKERFILE = "docker/Dockerfile"
# Whether a builder can build now: docker's command may be here without its daemon.
_PROBES = {
    "docker": ["docker", "info", "--format", "{{.ServerVersion}}"],
    "podman": ["podman", "info"],
    "buildah": ["buildah", "info"],
}


def builder(which: Callable[[str], str | None] = shutil.which) -> str:
    """Return the first builder that works; empty where none does."""
    for name, probe in _PROBES.items():
        if which(name) and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return name
    return ""


def command(name: str, service: str, repository: str, tag: str) -> list[str]:
    """Return the command that builds one image."""
    revision = _git("rev-parse", "HEAD")
    labels = {"VERSION": tag, "REVISION": revision, "CREATED": f"{_created():%Y-%m-%dT%H:%M:%SZ}"}
    given = [word for label, value in labels.items() for word in ("--build-arg", f"{label}={value}")]
    return [
        name, *(["bud"] if name == "buildah" else ["build"]), "--file", DOCKERFILE, "--target", service,
        "--tag", f"{repository}trunkline-{service}:{tag}", *given, ".",
    ]  # fmt: skip


def _created() -> datetime:
    """Return the commit's time: the same source gives the same labels."""
    return datetime.fromtimestamp(int(_git("log", "-1", "--format=%ct") or 0), UTC)


def _git(*arguments: str) -> str:
    told = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip()


def main() -> int:
    """Build every image; 1 where nothing can, and the code of a build that fails."""
    parser = argparse.ArgumentParser(prog="make images", description=__doc__)
    parser.add_argument("--tag", default="0.1.0", help="the tag of all images")
    parser.add_argument("--repository", default="", help="what the names begin with, with its slash")
    given = parser.parse_args()
    name = builder()
    if not name:
        print(
            f"none of {', '.join(_PROBES)} works here; `make alone` runs the same install steps without images",
            file=sys.stderr,
        )
        return 1
    for service in SERVICES:
        print(f"building trunkline-{service}:{given.tag} with {name}", flush=True)
        built = subprocess.run(command(name, service, given.repository, given.tag), cwd=ROOT, check=False)
        if built.returncode:
            return built.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
