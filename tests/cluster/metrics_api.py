"""A stand-in for prometheus-adapter and the metrics server: real /metrics pages, by the adapter's own rules."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import yaml

from tests.cluster.promql import Series, evaluate, series
from tools.packages import ROOT

_RULES = yaml.safe_load((ROOT / "k8s/components/prometheus-adapter/config.yaml").read_text())["externalRules"]
_EXTERNAL, _RESOURCE = "external.metrics.k8s.io", "metrics.k8s.io"


class MetricsApi:
    """Serves both APIs over HTTPS. `usage` is what each pod of an app uses, in thousandths of a processor."""

    def __init__(self, page: str, folder: Path, pods: Callable[[str], list[str]]) -> None:
        """`page` is the address of /metrics, `pods` the names of an app's pods."""
        self._page = page
        self._pods = pods
        self.usage: dict[str, int] = {}
        self._seen: list[tuple[float, Series]] = [(time.monotonic(), self._scrape())]
        key, certificate = folder / "tls.key", folder / "tls.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
             "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, answer = api.answer(self.path)
                body = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _scrape(self) -> Series:
        with urlopen(self._page, timeout=5) as answer:
            return series(answer.read().decode())

    def value(self, name: str, matchers: dict[str, str]) -> float:
        """Return what a rule makes of two scrapes that lie up to a few seconds apart."""
        (rule,) = [rule for rule in _RULES if rule["name"]["as"] == name]
        now = time.monotonic()
        if now - self._seen[-1][0] >= 1:
            self._seen = [*self._seen[-5:], (now, self._scrape())]
        (then, before), (last, latest) = self._seen[0], self._seen[-1]
        return evaluate(rule["metricsQuery"], matchers, latest, before, max(1.0, last - then))

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return what the API server is told."""
        asked = urlsplit(path)
        parts = asked.path.strip("/").split("/")
        group = parts[1] if len(parts) > 1 else ""
        if group == _EXTERNAL and len(parts) == 3:
            return 200, _resources(
                f"{_EXTERNAL}/v1beta1", [r["name"]["as"] for r in _RULES], "ExternalMetricValueList"
            )
        if group == _RESOURCE and len(parts) == 3:
            return 200, _resources(f"{_RESOURCE}/v1beta1", ["pods"], "PodMetrics")
        if group not in (_EXTERNAL, _RESOURCE):
            return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
        selector = parse_qs(asked.query).get("labelSelector", [""])[0]
        labels = dict(pair.split("=", 1) for pair in selector.split(",") if "=" in pair)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if group == _EXTERNAL:
            value = self.value(parts[-1], labels)
            item = {
                "metricName": parts[-1],
                "metricLabels": labels,
                "timestamp": stamp,
                "value": f"{round(value * 1000)}m",
            }
            return 200, {
                "kind": "ExternalMetricValueList",
                "apiVersion": f"{_EXTERNAL}/v1beta1",
                "metadata": {},
                "items": [item],
            }
        app = labels.get("app.kubernetes.io/name", "")
        items = [
            {
                "metadata": {"name": pod, "namespace": "trunkline", "labels": labels},
                "timestamp": stamp,
                "window": "10s",
                "containers": [
                    {"name": app, "usage": {"cpu": f"{self.usage.get(app, 1)}m", "memory": "100Mi"}}
                ],
            }
            for pod in self._pods(app)
        ]
        return 200, {
            "kind": "PodMetricsList",
            "apiVersion": f"{_RESOURCE}/v1beta1",
            "metadata": {},
            "items": items,
        }


def _resources(version: str, names: list[str], kind: str) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": [
            {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
            for name in names
        ],
    }


def services_of(port: int) -> list[dict[str, Any]]:
    """Return the objects that send both APIs to this server."""
    found: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "metrics-stand-in", "namespace": "kube-system"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }
    ]
    for group in (_EXTERNAL, _RESOURCE):
        found.append(
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"v1beta1.{group}"},
                "spec": {
                    "group": group,
                    "version": "v1beta1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "insecureSkipTLSVerify": True,
                    "service": {"name": "metrics-stand-in", "namespace": "kube-system", "port": port},
                },
            }
        )
    return found
