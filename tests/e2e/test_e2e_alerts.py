"""What a real Prometheus makes of metrics: alerts that reach people over a real Alertmanager, and traces to look at."""

from __future__ import annotations

import json
import os
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge, Histogram
from trunkline_cli.suite import web
from trunkline_cli.suite.processes import free_port
from trunkline_runtime.observe.endpoint import MetricsEndpoint

from tools.install import install, install_from_debian
from tools.watch import rules
from tools.watch.prometheus import Prometheus, started, stop

EVERY = 3
"""Seconds between scrapes, and for each: on a busy machine, one that fails would be an alert."""
FAST = "1s"
"""In the place of the times that are deployed, which are minutes."""


def there(name: str, tool: Path | None) -> Path:
    """A program, which must be there where it can be: CI."""
    if tool is None:
        assert os.environ.get("CI") != "true", f"{name} is not installed; see `make tools`"
        pytest.skip(f"{name} is not installed: `make tools` installs it where Go and apt-get are")
    return tool


class Told:
    """What receivers were sent: notifications by HTTP, and mail."""

    def __init__(self) -> None:
        self.pages: list[dict[str, Any]] = []
        self.mail: list[EmailMessage] = []
        told = self

        class Http(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                told.pages.append(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Smtp(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 here\r\n")
                for line in self.rfile:
                    verb = line[:4].upper().strip()
                    if verb == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        lines = iter(self.rfile.readline, b".\r\n")
                        text = b"".join(lines)
                        told.mail.append(cast(EmailMessage, message_from_bytes(text, policy=policy.default)))
                    self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 yes\r\n")
                    if verb == b"QUIT":
                        return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Http)
        self.smtp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp)
        self.smtp.daemon_threads = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        servers = (self.http, self.smtp)
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()

    def subjects(self) -> list[str]:
        return sorted(str(one["Subject"]) for one in self.mail)


@contextmanager
def alertmanager(folder: Path, told: Told) -> Iterator[str]:
    """Run an Alertmanager as it is deployed, but with a receiver of pages by HTTP, and less patience."""
    settings = yaml.safe_load((rules.FOLDER / "alertmanager.yaml").read_text())
    for route in (settings["route"], *settings["route"]["routes"]):
        route["group_wait"] = route["group_interval"] = FAST
    settings["global"]["smtp_smarthost"] = f"127.0.0.1:{told.smtp.server_address[1]}"
    (page,) = (one for one in settings["receivers"] if one["name"] == "page")
    page["webhook_configs"] = [{"url": f"http://127.0.0.1:{told.http.server_address[1]}/"}]
    folder.mkdir()
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(settings))
    for name in settings["templates"]:
        (folder / name).write_text((rules.FOLDER / name).read_text())
    address = f"127.0.0.1:{free_port()}"
    log = folder / "log"
    command = [
        there("alertmanager", install("alertmanager")), f"--config.file={folder / 'alertmanager.yaml'}",
        f"--storage.path={folder / 'data'}", f"--web.listen-address={address}", "--cluster.listen-address=",
    ]  # fmt: skip
    process = started(command, {}, log)
    try:
        wait(lambda: process.poll() is not None or answers(f"http://{address}/-/ready"), "Alertmanager", log)
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        stop(process)


def answers(url: str) -> bool:
    try:
        return web.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def wait(look: Any, what: str, log: Path) -> None:
    until = time.monotonic() + 60
    while not look():
        assert time.monotonic() < until, f"waited for {what}\n{log.read_text()[-2000:]}"
        time.sleep(0.1)


@pytest.mark.timeout(180)
def test_an_alert_is_delivered_once_with_its_runbook_and_later_resolved(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    shown = {
        name: Gauge(name, name, labels, registry=registry)
        for name, labels in {
            "trunkline_process_info": ["name"],
            "trunkline_webhooks_go_to": [],
            "trunkline_source_bad_signatures_total": ["tenant", "source"],
        }.items()
    }
    shown["trunkline_process_info"].labels("gateway").set(1)
    told = Told()
    with ExitStack() as stack:
        stack.enter_context(told.listening())
        exporter = MetricsEndpoint(f"127.0.0.1:{free_port()}", "gateway", "SETTING", registry=registry)
        stack.callback(exporter.close)
        manager = stack.enter_context(alertmanager(tmp_path / "alertmanager", told))
        log = tmp_path / "alertmanager" / "log"
        prometheus = Prometheus(
            there("prometheus", install_from_debian("prometheus")),
            tmp_path / "prometheus",
            {"gateway": f"127.0.0.1:{exporter.port}"},
            f"127.0.0.1:{free_port()}",
            seconds=EVERY,
            lasts=FAST,
            alertmanager=manager,
        )
        stack.enter_context(prometheus)
        wait(lambda: prometheus.asked("trunkline_webhooks_go_to"), "a scrape", log)
        shown["trunkline_webhooks_go_to"].set(2)
        for tenant in ("acme", "globex"):
            shown["trunkline_source_bad_signatures_total"].labels(tenant, "main").set(5)
        wait(lambda: told.pages and len(told.mail) >= 3, "a page and three mails", log)
        shown["trunkline_webhooks_go_to"].set(0)
        wait(lambda: len(told.pages) >= 2 and len(told.mail) >= 4, "the page's end", log)
    runbook = f"{rules.RUNBOOKS}/webhooks-refused.md"
    assert [page["status"] for page in told.pages] == ["firing", "resolved"]
    for page in told.pages:
        (alert,) = page["alerts"]
        assert alert["labels"]["alertname"] == "TrunklineWebhooksRefused"
        assert alert["labels"]["severity"] == "page"
        assert alert["annotations"]["runbook_url"] == runbook
    assert told.subjects() == [
        "[FIRING] TrunklineSignaturesRefused of acme",
        "[FIRING] TrunklineSignaturesRefused of globex",
        "[FIRING] TrunklineWebhooksRefused",
        "[RESOLVED] TrunklineWebhooksRefused",
    ]
    (first,) = (one for one in told.mail if one["Subject"] == "[FIRING] TrunklineWebhooksRefused")
    text = first.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert first["To"] == "root@localhost"
    assert text.startswith("Neither the store nor the spool takes webhooks; senders get 503.")
    assert f"\nRunbook: {runbook}\n" in text.replace("\r\n", "\n")
    assert "\nseverity: page\n" in text.replace("\r\n", "\n")


def test_the_trace_of_a_slow_webhook_is_found_from_its_histogram(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    seconds = Histogram("trunkline_receive_seconds", "Seconds.", registry=registry)
    exporter = MetricsEndpoint(f"127.0.0.1:{free_port()}", "gateway", "SETTING", registry=registry)
    prometheus = Prometheus(
        there("prometheus", install_from_debian("prometheus")),
        tmp_path,
        {"gateway": f"127.0.0.1:{exporter.port}"},
        f"127.0.0.1:{free_port()}",
        seconds=EVERY,
    )
    begun = time.time()
    seconds.observe(0.7, {"trace_id": "ab" * 16})
    with prometheus:
        log = tmp_path / "prometheus.log"

        def found() -> list[Any]:
            return prometheus.exemplars("trunkline_receive_seconds_bucket", begun - 60, time.time() + 60)

        wait(found, "an exemplar", log)
        assert {one["trace_id"] for one in found()} == {"ab" * 16}
    exporter.close()
