"""What the four stores hold, read by plain SQL: by a tool that shares no queries with the services."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.tenant.v1 import call_pb2
from trunkline_gateway.intake.spool_log import frames


@dataclass(frozen=True)
class Receipt:
    """A stored webhook: `events` are those that it is linked to."""

    receipt_id: str
    digest: str  # of the body
    events: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """An event with its job."""

    event_id: str
    state: str  # of the job; "none" when there is no job
    error: str


@dataclass(frozen=True)
class Call:
    """A call with the events that told of it."""

    tenant: str
    call_id: str
    provider_call_id: str
    lead_id: str | None
    note: str
    analysed: bool
    events: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """Everything that is judged."""

    receipts: list[Receipt]
    events: list[Event]
    calls: list[Call]
    leads: dict[tuple[str, str], int]  # tenant and number -> call_count
    leads_calls: dict[tuple[str, str], int]  # the same, counted by the calls' rows
    recordings: dict[str, int]  # call's name -> recordings
    transcripts: dict[str, int]  # call's name -> transcripts
    analyses: dict[tuple[str, str], int]  # tenant and call id -> analyses
    rejections: int


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a store's file for looking only, also while its service runs."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def waiting(folder: Path) -> dict[str, int]:
    """Count what still waits in a gateway's files: in its spool, and see `still_waiting`."""
    with reading(folder / "gateway.db") as store:
        left = still_waiting(store)
    left["spooled"] = spooled(folder / "gateway.db.spool")
    return left


def spooled(folder: Path) -> int:
    """Count what waits in a spool; a segment may leave meanwhile."""
    count = 0
    for path in sorted(folder.glob("*.log")):
        with suppress(FileNotFoundError):
            count += sum(payload is not None for _, payload in frames(path))
    return count


def still_waiting(gateway: sqlite3.Connection) -> dict[str, int]:
    """Count what still waits: receipts to be admitted, receipts to be decided, jobs."""
    admitted = "(SELECT coalesce(max(seq), 0) FROM cursors WHERE name = 'admission')"
    ahead = " AND seq NOT IN (SELECT seq FROM admitted_ahead)"
    return {
        "receipts": _one(gateway, f"SELECT count(*) FROM receipts WHERE seq > {admitted}{ahead}"),
        "undecided": _one(gateway, "SELECT count(*) FROM undecided_receipts"),
        "jobs": _one(gateway, "SELECT count(*) FROM jobs WHERE visible_at IS NOT NULL"),
    }


def read_stored(folder: Path) -> Stored:
    """Read all of it; the services should be stopped."""
    with reading(folder / "gateway.db") as gateway, reading(folder / "tenant.db") as tenant:
        receipts, events, rejections = of_gateway(gateway)
        calls, leads, leads_calls = of_tenant(tenant)
    with reading(folder / "audio.db") as store:
        recordings = dict(store.execute('SELECT "call", count(*) FROM recordings GROUP BY 1'))
        heard = store.execute(
            'SELECT r."call", count(*) FROM transcripts t JOIN recordings r'
            " ON r.tenant_id = t.tenant_id AND r.recording_id = t.recording_id GROUP BY 1"
        )
        transcripts = dict(heard)
    with reading(folder / "ai.db") as store:
        counted = store.execute("SELECT tenant_id, call_id, count(*) FROM analyses GROUP BY 1, 2")
        analyses = {(tenant, call): count for tenant, call, count in counted}
    return Stored(receipts, events, calls, leads, leads_calls, recordings, transcripts, analyses, rejections)


def of_gateway(store: sqlite3.Connection) -> tuple[list[Receipt], list[Event], int]:
    """Read receipts and events, and count rejections."""
    links: dict[int, list[str]] = {}
    for seq, event_id in store.execute("SELECT seq, event_id FROM event_receipts"):
        links.setdefault(seq, []).append(event_id)
    # A redelivery that repeats its event's first body keeps none of its own, only how large it was.
    rows = store.execute(
        "SELECT r.seq, r.receipt_id, CASE WHEN l.repeated_bytes IS NULL THEN r.body ELSE f.body END FROM receipts r"
        " LEFT JOIN event_receipts l ON l.seq = r.seq AND l.repeated_bytes IS NOT NULL"
        " LEFT JOIN events e ON e.tenant_id = l.tenant_id AND e.event_id = l.event_id"
        " LEFT JOIN receipts f ON f.seq = e.first_seq AND length(f.body) = l.repeated_bytes"
    )
    receipts = [
        Receipt(receipt_id, hashlib.sha256(body or b"").hexdigest(), tuple(links.get(seq, ())))
        for seq, receipt_id, body in rows
    ]
    told = store.execute(
        "SELECT e.event_id, j.state, j.last_error FROM events e LEFT JOIN jobs j"
        " ON j.tenant_id = e.tenant_id AND j.subject = e.event_id"
    )
    events = [Event(event, state or "none", _message(error)) for event, state, error in told]
    return receipts, events, _one(store, "SELECT count(*) FROM rejections")


def of_tenant(
    store: sqlite3.Connection,
) -> tuple[list[Call], dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """Read calls, what leads count, and what they should count by the calls' rows."""
    leads = {
        (tenant, number): count
        for tenant, number, count in store.execute("SELECT tenant_id, phone_number, call_count FROM leads")
    }
    counted = store.execute(
        "SELECT tenant_id, caller_number, count(*) FROM calls WHERE lead_id IS NOT NULL GROUP BY 1, 2"
    )
    return _calls(store), leads, {(tenant, number): count for tenant, number, count in counted}


def _calls(store: sqlite3.Connection) -> list[Call]:
    told: dict[tuple[str, str], list[str]] = {}
    for tenant, call, event in store.execute("SELECT tenant_id, call_id, event_id FROM call_events"):
        told.setdefault((tenant, call), []).append(event.rsplit("/", 1)[-1])
    calls = []
    for tenant, call, provider_call_id, lead, facts in store.execute(
        "SELECT tenant_id, call_id, provider_call_id, lead_id, facts FROM calls"
    ):
        known = call_pb2.Call.FromString(facts)
        events = tuple(told.get((tenant, call), ()))
        calls.append(Call(tenant, call, provider_call_id, lead, known.note, bool(known.analysis), events))
    return calls


def _one(store: sqlite3.Connection, query: str) -> int:
    return int(store.execute(query).fetchone()[0])


def _message(error: Any) -> str:
    return str((json.loads(error) or {}).get("message", "")) if error else ""
