"""`make alone`: each service in an environment that holds it and its lock only, started and asked for its health.

Then in one of its second lock, which must hold all that its store needs on Cloud Spanner.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline_cli.services import COMMANDS
from trunkline_cli.suite.processes import Suite

from tools.packages import ROOT, Package, packages

INSTALL = ROOT / "docker" / "install"
# What a service must not need: another one's libraries.
FOREIGN = {
    "tenant": ("av", "onnxruntime", "ctranslate2", "google.cloud.spanner", "vaderSentiment", "uvicorn"),
    "ai": ("av", "onnxruntime", "ctranslate2", "google.cloud.spanner", "uvicorn"),
    "audio": ("google.cloud.spanner", "vaderSentiment", "uvicorn"),
    "gateway": ("av", "onnxruntime", "ctranslate2", "google.cloud.spanner", "vaderSentiment", "numpy"),
}

# The one service whose bytecode is made as an image has it.
COMPILED = "tenant"
SPANNER_ENGINE = "trunkline_store.spanner.engine"


def build(package: Package, folder: Path, lock: Path, *, sbom: bool = False, bytecode: bool = False) -> Path:
    """Bring an environment to one of the service's locks, by the steps of an image; return its Python."""
    left_out = {name: "yes" if wanted else "no" for name, wanted in (("SBOM", sbom), ("BYTECODE", bytecode))}
    tools = str(Path(sys.executable).parent.parent)
    env = {**os.environ, **left_out, "PYTHON": sys.executable, "TOOLS": tools}
    subprocess.run([INSTALL, "service", package.name, folder, lock.name], check=True, env=env)
    if sbom and (missing := unlisted(folder / "sbom.cdx.json", lock)):
        raise SystemExit(f"the SBOM of {package.name} lacks {missing}")
    return folder / "bin" / "python"


def unlisted(sbom: Path, lock: Path) -> list[str]:
    """Return what a lock holds for every machine, and an SBOM does not, or at another version."""
    held = json.loads(sbom.read_text())["components"]
    listed = {f"{re.sub(r'[-_.]+', '-', one['name']).lower()}=={one['version']}" for one in held}
    return sorted({line for line in locked(lock) if ";" not in line} - listed)


def locked(lock: Path) -> set[str]:
    """Return the lines of a lock."""
    return {line.strip() for line in lock.read_text().splitlines()}


def foreign(python: Path, names: tuple[str, ...]) -> list[str]:
    """Which of the modules can be imported there: none should."""
    there = []
    for name in names:
        tried = subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False)
        if tried.returncode == 0:
            there.append(name)
    return there


def serves(python: Path, name: str, folder: Path) -> str:
    """Start the service alone and ask its health; return why it does not serve, or an empty string."""
    shutil.rmtree(folder, ignore_errors=True)
    suite = Suite(folder, free_ports=True)
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", *COMMANDS[name]], env=suite.environment(), stdout=log, stderr=log, cwd=folder
        )
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and process.poll() is None:
            with grpc.insecure_channel(suite.grpc[name]) as channel:
                try:
                    answer = health_pb2_grpc.HealthStub(channel).Check(
                        health_pb2.HealthCheckRequest(), timeout=2
                    )
                except grpc.RpcError:
                    answer = None
            if answer is not None and answer.status == health_pb2.HealthCheckResponse.SERVING:
                return ""
            time.sleep(0.05)
        return f"did not serve:\n{(folder / 'log.txt').read_text()[-2000:]}"
    finally:
        process.terminate()
        process.wait(20)


def embedded(package: Package, folder: Path) -> str:
    """Check a service on its embedded lock; why it fails, or an empty string."""
    shutil.rmtree(folder / package.name, ignore_errors=True)
    python = build(package, folder / package.name, package.lock)
    too_much = foreign(python, FOREIGN[package.name])
    if too_much:
        return f"holds what only others need: {too_much}"
    return serves(python, package.name, folder / f"{package.name}-run")


def on_spanner(package: Package, folder: Path) -> str:
    """Check that a service's second lock holds all that Cloud Spanner needs; why not, or an empty string.

    It is installed over the first, which it must hold. What an image has besides is made here only: an SBOM of each
    service, and bytecode of one, as the longest step and the same for all.
    """
    assert package.spanner_lock is not None
    if other := sorted(locked(package.lock) - locked(package.spanner_lock)):
        return f"the second lock does not hold {other}"
    bytecode = package.name == COMPILED
    python = build(package, folder / package.name, package.spanner_lock, sbom=True, bytecode=bytecode)
    tried = subprocess.run([python, "-c", f"import {SPANNER_ENGINE}"], capture_output=True, text=True)
    return f"cannot load {SPANNER_ENGINE}:\n{tried.stderr[-2000:]}" if tried.returncode else ""


def main() -> int:
    """Check every service; 1 when one fails."""
    failed = 0
    wanted = sys.argv[1:]
    for package in packages():
        if package.folder.parent.name != "services" or (wanted and package.name not in wanted):
            continue
        for what, check in (("", embedded), ("with Spanner", on_spanner)):
            begun = time.monotonic()
            problem = check(package, ROOT / "build" / "alone")
            print(
                f"{package.name:8} {what:12} {problem or 'ok'} ({time.monotonic() - begun:.1f} s)", flush=True
            )
            failed += bool(problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
