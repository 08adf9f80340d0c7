"""A gateway whose metrics' port another program has takes webhooks, and shows its metrics once the port is free."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import httpx
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.seed import seed_tenant

from tests.forked import launch


def test_a_gateway_takes_webhooks_while_another_program_has_the_port_of_its_metrics(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "suite", free_ports=True, launch=launch)
    host, _, port = suite.metrics["gateway"].rpartition(":")
    other = socket.create_server((host, int(port)))
    try:
        suite.start("tenant", "gateway")
        told = suite.log_end("gateway", 100)
        (line,) = (line for line in told.splitlines() if "metrics_not_served" in line)
        assert suite.metrics["gateway"] in line
        assert "TRUNKLINE_GATEWAY_METRICS_ADDRESS" in line
        assert "Traceback" not in told
        source = seed_tenant(suite.http_url, suite.operator_token, "acme", "http://127.0.0.1:9").source(
            "callrail"
        )
        hook = webhooks.callrail(source, "post_call", webhooks.callrail_call(source, "1", recorded=False))
        assert web.post(hook.url, content=hook.body, headers=dict(hook.headers)).status_code == 202
        other.close()
        until = time.monotonic() + 30
        while not (metrics := shown(suite)):
            assert time.monotonic() < until, suite.log_end("gateway")
            time.sleep(0.1)
        assert 'trunkline_process_info{name="gateway"} 1.0' in metrics
        assert 'trunkline_receipts_total{answer="accepted",provider="callrail"} 1.0' in metrics
    finally:
        other.close()
        suite.stop()


def shown(suite: Suite) -> str:
    """The gateway's metrics, as far as they are served."""
    try:
        return web.get(f"{suite.metrics_url()}/metrics", timeout=2).text
    except httpx.HTTPError:
        return ""
