"""Calls between their rows and the message that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from trunkline.tenant.v1 import call_pb2
from trunkline_runtime.api.times import timestamp, utc

from trunkline_tenant import ids
from trunkline_tenant.calls.facts import Stamp, Statement
from trunkline_tenant.leads import phone_numbers

# The columns that showing a call needs.
SHOWN = (
    "tenant_id", "call_id", "provider", "provider_account", "provider_call_id", "facts", "lead_id",
    "last_event_time", "etag", "create_time", "update_time",
)  # fmt: skip


def columns_of(tenant: str, said: Statement, first_event: datetime) -> dict[str, Any]:
    """Return the columns that derive from a call's facts."""
    facts = said.facts
    number = _kept(facts.caller_number, 256)
    counts = phone_numbers.names_a_caller(number) and not facts.spam
    return {
        "facts": facts.SerializeToString(),
        "field_times": {name: list(stamp) for name, stamp in said.times.items()},
        "start_time": utc(facts.start_time) if facts.HasField("start_time") else first_event,
        "kind": facts.kind,
        "state": facts.state,
        "source_id": facts.source.rpartition("/")[2],
        "caller_number": number,
        "caller_name": _kept(facts.caller_name, 1024),
        "spam": facts.spam,
        "sentiment": facts.sentiment,
        "intent": facts.intent,
        "lead_level": facts.lead_level,
        "lead_score": facts.lead_score,
        "outcome": facts.outcome,
        "lead_id": ids.lead_id(tenant, number) if counts else None,
    }


def statement_of(row: Mapping[Any, Any]) -> Statement:
    """Return what is known of a call from its row."""
    return Statement(
        call_pb2.Call.FromString(row["facts"]),
        {name: Stamp.kept(stamp) for name, stamp in row["field_times"].items()},
    )


def shown(row: Mapping[Any, Any], events: list[str] | None = None) -> call_pb2.Call:
    """Return the call as its readers see it; `events` are bare ids, the latest first."""
    call = call_pb2.Call.FromString(row["facts"])
    tenant = row["tenant_id"]
    call.state_sequence = 0
    if call.recording:  # it was fetched anew
        call.ClearField("recording_delete_time")
    call.name = f"tenants/{tenant}/calls/{row['call_id']}"
    call.provider = row["provider"]
    call.provider_account = row["provider_account"]
    call.provider_call_id = row["provider_call_id"]
    if row["lead_id"] is not None:
        call.lead = f"tenants/{tenant}/leads/{row['lead_id']}"
    call.last_event_time.CopyFrom(timestamp(row["last_event_time"]))
    call.create_time.CopyFrom(timestamp(row["create_time"]))
    call.update_time.CopyFrom(timestamp(row["update_time"]))
    call.etag = row["etag"]
    call.events.extend(f"tenants/{tenant}/events/{event}" for event in events or ())
    return call


def _kept(text: str, length: int) -> str:
    """Return text as a column can keep it; the whole of it stays in the facts."""
    return text.replace("\0", "")[:length]
