"""What the metrics say at a start: it is no event, and the first event after it is one."""

from __future__ import annotations

import math
import runpy
import socket

import httpx
import pytest
from prometheus_client import REGISTRY
from trunkline_gateway.edge import unready
from trunkline_gateway.jobs import depth
from trunkline_runtime.testing import value_of


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_dead_letters_are_not_0_before_they_were_counted() -> None:
    gauge = runpy.run_path(depth.__file__)["DEAD_LETTERS"]
    assert math.isnan(value_of(gauge))


@pytest.mark.parametrize("reason", ["too_many_connections", "too_many_bodies"])
def test_what_is_refused_because_the_edge_is_full_is_counted_from_0_on(reason: str) -> None:
    assert shown("trunkline_http_refused_total", reason=reason) is not None


@pytest.mark.parametrize(
    ("path", "name", "labels"),
    [
        ("/v1/tenants", "trunkline_api_requests_total", {"rpc": "none", "status": "503"}),
        ("/hooks/s/e", "trunkline_receipts_total", {"provider": "unknown", "answer": "store_not_ready"}),
    ],
)
async def test_what_is_asked_of_a_gateway_that_waits_for_its_store_is_counted(
    path: str, name: str, labels: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    async with unready.answering(address, lambda: "no store"), httpx.AsyncClient() as client:
        before = shown(name, **labels)
        assert before is not None, "counted from 0 on"
        answer = await client.post(f"http://{address}{path}")
    assert (answer.status_code, shown(name, **labels)) == (503, before + 1)
