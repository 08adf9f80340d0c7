"""Counts how the requests of `/v1` were answered, from 0 on for each failure that an alert asks for."""

from __future__ import annotations

from collections.abc import Iterable

from trunkline_runtime.observe.metrics import counter, histogram

from trunkline_gateway.http_errors import HTTP_STATUS

NO_RPC = "none"
"""The label of requests that lead to no RPC."""
ANSWERED = counter("trunkline_api_requests_total", "HTTP API requests by RPC and status", ["rpc", "status"])
TOOK = histogram("trunkline_api_seconds", "Seconds an HTTP API request took", ["rpc"])
# The alert compares failures with all requests, so successes must have a rate from the first one on too.
_FROM_ZERO = sorted({200, *(status for status in HTTP_STATUS.values() if status >= 500)})


def count_from_zero(rpcs: Iterable[str]) -> None:
    """Show these RPCs' successes and failures before there are any.

    A series that appears with its first count has no rate, so a first burst of failures would not be seen.
    """
    for rpc in (*rpcs, NO_RPC):
        for status in _FROM_ZERO:
            ANSWERED.labels(rpc, str(status))
