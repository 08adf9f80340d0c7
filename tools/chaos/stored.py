"""What the four stores hold, read from their files: by a tool that shares no code with the services."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.tenant.v1 import call_pb2


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
    """Count what still waits: receipts to be admitted, receipts to be decided, jobs."""
    with reading(folder / "gateway.db") as store:
        admitted = "(SELECT coalesce(max(seq), 0) FROM cursors WHERE name = 'admission')"
        return {
            "receipts": _one(store, f"SELECT count(*) FROM receipts WHERE seq > {admitted}"),
            "undecided": _one(store, "SELECT count(*) FROM undecided_receipts"),
            "jobs": _one(store, "SELECT count(*) FROM jobs WHERE visible_at IS NOT NULL"),
        }


def read_stored(folder: Path) -> Stored:
    """Read all of it; the services should be stopped."""
    with reading(folder / "gateway.db") as store:
        links: dict[int, list[str]] = {}
        for seq, event_id in store.execute("SELECT seq, event_id FROM event_receipts"):
            links.setdefault(seq, []).append(event_id)
        rows = store.execute("SELECT seq, receipt_id, body FROM receipts")
        receipts = [
            Receipt(receipt_id, hashlib.sha256(body).hexdigest(), tuple(links.get(seq, ())))
            for seq, receipt_id, body in rows
        ]
        told = store.execute(
            "SELECT e.event_id, j.state, j.last_error FROM events e LEFT JOIN jobs j"
            " ON j.tenant_id = e.tenant_id AND j.subject = e.event_id"
        )
        events = [Event(event, state or "none", _message(error)) for event, state, error in told]
        rejections = _one(store, "SELECT count(*) FROM rejections")
    with reading(folder / "tenant.db") as store:
        calls = _calls(store)
        leads = {
            (tenant, number): count
            for tenant, number, count in store.execute(
                "SELECT tenant_id, phone_number, call_count FROM leads"
            )
        }
        counted = store.execute(
            "SELECT tenant_id, caller_number, count(*) FROM calls WHERE lead_id IS NOT NULL GROUP BY 1, 2"
        )
        leads_calls = {(tenant, number): count for tenant, number, count in counted}
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
