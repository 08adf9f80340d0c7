"""A Prometheus of our own beside a suite: started over a folder, asked, and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from trunkline_cli.screen import Failure
from trunkline_cli.suite import web
from trunkline_cli.suite.alone import taken
from trunkline_cli.suite.processes import Launched, launched

from tools.packages import ROOT
from tools.watch import rules

READY_SECONDS = 30.0
RETENTION = "45d"
"""As on one server (deploy/systemd): a month can be seen as a whole."""
_STOP_SECONDS = 15


class PrometheusError(Failure):
    """It did not start, or it did not take a question; the text says why."""


@dataclass(frozen=True)
class Series:
    """What a question was answered with for one set of labels: times (Unix seconds) and values."""

    labels: Mapping[str, str]
    values: tuple[tuple[float, float], ...]


def started(command: Sequence[str | Path], env: Mapping[str, str], log: Path) -> Launched:
    """Start a program whose output goes to the log; it ends with this process, however this one ends.

    Its session is its own: Ctrl-C stops the suite first.
    """
    told = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    with log.open("wb") as out:
        return launched(["tools.watch.beside", *map(str, command)], told, out)


def stop(process: Launched) -> None:
    """End a program that was started, in the end by SIGKILL."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass
class Prometheus:
    """Scrapes the given metrics addresses (service to host:port) with the suite's rules; serves at `address`."""

    program: Path
    folder: Path
    addresses: Mapping[str, str]
    address: str
    seconds: int = 15
    """Between scrapes, and between looks at the rules."""
    lasts: str = ""
    """For how long each alert's query must have an answer; empty: as the alert says."""
    alertmanager: str = ""
    """The address of the Alertmanager that alerts go to, if there is one."""
    _process: Launched | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}"

    def __enter__(self) -> Prometheus:
        """Start it, with what it kept before. Raises PrometheusError, also when another one has the address."""
        if lines := taken({"Prometheus": self.address}):
            raise PrometheusError("\n".join(["the address of Prometheus is in use:", *lines]))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "trunkline.rules.yaml").write_text(rules.rules(self.seconds, self.lasts))
        settings = self.folder / "prometheus.yaml"
        settings.write_text(
            rules.scraping(self.addresses, seconds=self.seconds, alertmanager=self.alertmanager)
        )
        command: list[str | Path] = [
            self.program, f"--config.file={settings}", f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}", f"--storage.tsdb.retention.time={RETENTION}",
            "--enable-feature=exemplar-storage", "--log.level=warn",
        ]  # fmt: skip
        log = self.folder / "prometheus.log"
        self._process = started(command, {}, log)
        until = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise PrometheusError(f"Prometheus did not start:\n{log.read_text()[-1500:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop it."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def _ready(self) -> bool:
        try:
            return web.get(f"{self.url}/-/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def asked(self, question: str) -> list[Series]:
        """Ask for now. Raises PrometheusError for a question that it does not take."""
        return [
            Series(one["metric"], ((float(one["value"][0]), float(one["value"][1])),))
            for one in self._get("query", query=question)["result"]
        ]

    def asked_over(self, question: str, begin: float, end: float, step: float) -> list[Series]:
        """Ask for each step of a time."""
        answer = self._get("query_range", query=question, start=str(begin), end=str(end), step=str(step))
        return [
            Series(one["metric"], tuple((float(at), float(value)) for at, value in one["values"]))
            for one in answer["result"]
        ]

    def exemplars(self, question: str, begin: float, end: float) -> list[Mapping[str, str]]:
        """The labels of what the series of a question were observed with in a time, such as `trace_id`."""
        series = self._get("query_exemplars", query=question, start=str(begin), end=str(end))
        return [exemplar["labels"] for one in series for exemplar in one["exemplars"]]

    def rules(self) -> list[dict[str, Any]]:
        """The rules with their health and last error."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **params: str) -> Any:
        answer = web.get(f"{self.url}/api/v1/{what}", params=params, timeout=30).json()
        if answer["status"] != "success":
            raise PrometheusError(f"{params.get('query', what)}: {answer.get('error')}")
        return answer["data"]
