"""Requests are counted where they begin, by the part that they go to; probes are not."""

from __future__ import annotations

from prometheus_client import REGISTRY
from trunkline_gateway.edge.front import Front


def counted(to):
    return REGISTRY.get_sample_value("trunkline_http_requests_total", {"to": to}) or 0


async def test_requests_are_counted_by_the_part_that_they_go_to():
    async def part(scope, receive, send):
        pass

    async def send(message):
        pass

    front = Front(part, part, lambda: (True, "ok"))
    before = {to: counted(to) for to in ("hooks", "v1")}
    for path in (
        "/hooks/s-1/post_call",
        "/v1/tenants",
        "/v1/tenants/acme",
        "/healthz",
        "/readyz",
        "/elsewhere",
    ):
        await front({"type": "http", "path": path}, None, send)
    assert {to: counted(to) - before[to] for to in before} == {"hooks": 1, "v1": 2}
