"""The trace of a webhook has the id of its receipt, which also says whether it is exported.

So it goes on wherever the receipt goes: through the spool, the store, and a restart, to whichever worker. A replay has
an id of the same form, which its event keeps (docs/decisions/0106-traces.md).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.tracing import TraceContext

from trunkline_gateway.ids import SAMPLED
from trunkline_gateway.receipts import NewReceipt, Receipt

_TRACEPARENT = "traceparent"


def is_sampled(trace_id: str) -> bool:
    """Say whether the trace of this id is exported."""
    return trace_id[20:24] == SAMPLED


def place_of(trace_id: str) -> TraceContext:
    """Return the place of a trace's first span."""
    flags = "01" if is_sampled(trace_id) else "00"
    return TraceContext(trace_id, trace_id[8:16] + trace_id[24:], flags)


def received(receipt: NewReceipt, seconds: float, headers: Mapping[str, str]) -> dict[str, str]:
    """Record the first span of a sampled trace: a webhook that was answered, just now, in so many seconds.

    Returns the exemplar of its observation. What its sender says of a trace of its own is linked.
    """
    told = headers.get(_TRACEPARENT)
    ended = time.time_ns()
    tracing.record(
        "POST /hooks/{source}/{event_type}",
        "server",
        (ended - int(seconds * 1e9), ended),
        {
            "http.request.method": "POST",
            "http.route": "/hooks/{source}/{event_type}",
            "http.response.status_code": 202,
            "tenant": receipt.tenant_id,
            "source": receipt.source_id,
            "event_type": receipt.event_type,
        },
        itself=place_of(receipt.receipt_id),
        linked=tracing.incoming(told) if told else None,
    )
    return {"trace_id": receipt.receipt_id}


def admitted(receipt: Receipt, tenant: str, event: str) -> None:
    """Record the span of a sampled trace that lasts from a receipt's arrival to its admission, just now."""
    began = int(receipt.received_at.timestamp() * 1e9)
    tracing.record(
        "admission",
        "internal",
        (began, max(began, time.time_ns())),
        {"tenant": tenant, "event": event},
        parent=place_of(receipt.receipt_id),
    )
