"""Recording what one event says about a call: one transaction over the call, its aliases, events and lead.

Which row it lands in: a call has every id that some event named beside another of its ids. It is named
after the most lasting of them, so its name too is the same in any order of arrival; names it had before
still find it, through `call_aliases`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import call_pb2, tenant_pb2
from trunkline_runtime.api.times import timestamp
from trunkline_runtime.errors import NotFound
from trunkline_store.hot import Hot
from trunkline_store.types import from_microseconds, to_json, to_microseconds

from trunkline_tenant import ids
from trunkline_tenant.calls import call_events, erasure
from trunkline_tenant.calls import rows as call_rows
from trunkline_tenant.calls.facts import Stamp, Statement, join, said_state, without_old_state
from trunkline_tenant.leads import rows as lead_rows
from trunkline_tenant.schema import call_aliases, calls, tenants

_TENANT: sa.BindParameter[Any] = sa.bindparam("tenant")
_CALLS: sa.BindParameter[Any] = sa.bindparam("calls", expanding=True)
_KNOWN_TENANT = Hot(
    sa.select(tenants.c.tenant_id).where(
        tenants.c.tenant_id == _TENANT, tenants.c.state != tenant_pb2.TENANT_STATE_DELETED
    )
)
_ALIASES = Hot(
    sa.select(call_aliases).where(
        call_aliases.c.tenant_id == _TENANT, call_aliases.c.alias_id.in_(sa.bindparam("ids", expanding=True))
    )
)
_ALIASES_OF = Hot(
    sa.select(call_aliases).where(call_aliases.c.tenant_id == _TENANT, call_aliases.c.call_id.in_(_CALLS))
)
_ROWS = Hot(sa.select(calls).where(calls.c.tenant_id == _TENANT, calls.c.call_id.in_(_CALLS)))
_KEY = (calls.c.tenant_id == _TENANT, calls.c.call_id == sa.bindparam("call"))
_INSERT = Hot(sa.insert(calls))
_UPDATE = Hot(sa.update(calls).where(*_KEY))
_DELETE = sa.delete(calls).where(*_KEY)
_INSERT_ALIAS = Hot(sa.insert(call_aliases))
_UPDATE_ALIAS = sa.update(call_aliases).where(
    call_aliases.c.tenant_id == _TENANT, call_aliases.c.alias_id == sa.bindparam("id")
)
# Columns that never change once a call has its row.
_FIXED = ("tenant_id", "call_id", "provider", "provider_account", "create_time")


@dataclass(frozen=True, slots=True)
class Said:
    """What an event says, and about which call: its ids at the provider, the most lasting first."""

    tenant: str
    provider: int
    account: str
    provider_ids: Sequence[str]
    stamp: Stamp
    statement: Statement


@dataclass(frozen=True, slots=True)
class _Alias:
    """An id of a call at its provider; `place` 0 is the most lasting."""

    text: str
    place: int
    call_id: str | None


def record(conn: Connection, said: Said, now: datetime) -> Mapping[Any, Any] | None:
    """Merge what an event says into its call and return the call's row; repeating it changes nothing.

    None for a call that was erased: its other ids are erased with it.

    Raises NotFound when there is no such tenant.
    """
    if _KNOWN_TENANT.first(conn, {"tenant": said.tenant}) is None:
        raise NotFound(f"tenants/{said.tenant}")
    named = {
        ids.call_id(said.tenant, said.provider, said.account, text): _Alias(text, place, None)
        for place, text in reversed(list(enumerate(said.provider_ids)))
    }
    known = _aliases(conn, _ALIASES, {"tenant": said.tenant, "ids": list(named)})
    if erasure.meets(conn, said.tenant, known, named):
        return None
    found = sorted({alias.call_id for alias in known.values() if alias.call_id is not None})
    rows = _ROWS.all(conn, {"tenant": said.tenant, "calls": found}) if found else []
    if len(found) > 1 or any(key not in known or known[key].place < named[key].place for key in named):
        known = _aliases(conn, _ALIASES_OF, {"tenant": said.tenant, "calls": found}) if found else {}
        call = _name_call(conn, said.tenant, known, named)
    elif found:
        call = (found[0], rows[0]["provider_call_id"])
    return _merge(conn, said, call, rows, now)


def record_state(
    conn: Connection, tenant: str, call_id: str, event: str, state: call_pb2.Call, now: datetime
) -> bool:
    """Say how far an event has brought its call; True when the call has that state now. Raises NotFound."""
    row = found(conn, tenant, call_id)
    known = call_rows.statement_of(row)
    said = said_state(known, event, state)
    if said is None:
        return False
    merged = join(known, said)
    if merged.facts != known.facts:
        _rewrite(conn, row, merged, now)
    return merged.facts.state_sequence == state.state_sequence


def forget_recording(
    conn: Connection, tenant: str, call_id: str, recording: str, now: datetime, *, transcript_stays: bool
) -> bool:
    """Take a recording that is deleted out of its call; True when the call knew it. Raises NotFound.

    The stamps stay: what an older event says of a recording does not come back, a newer one's is another.
    """
    row = found(conn, tenant, call_id)
    known = call_rows.statement_of(row)
    facts = call_pb2.Call()
    facts.CopyFrom(known.facts)
    knew = False
    for file in facts.media:
        if file.recording == recording:
            file.recording, file.problem, knew = "", "RECORDING_DELETED", True
    if facts.recording == recording:
        knew = True
        facts.recording = ""
        if not transcript_stays:
            facts.transcript = ""
        facts.recording_delete_time.CopyFrom(timestamp(now))
    if knew:
        _rewrite(conn, row, Statement(facts, known.times), now)
    return knew


def forget_transcript(conn: Connection, tenant: str, call_id: str, transcript: str, now: datetime) -> bool:
    """Take a transcript that is deleted out of its call; True when the call named it. Raises NotFound."""
    row = found(conn, tenant, call_id)
    known = call_rows.statement_of(row)
    if known.facts.transcript != transcript:
        return False
    facts = call_pb2.Call()
    facts.CopyFrom(known.facts)
    facts.transcript = ""
    _rewrite(conn, row, Statement(facts, known.times), now)
    return True


def found(conn: Connection, tenant: str, call_id: str) -> Mapping[Any, Any]:
    """Return a call's row, also by a name that it had before it was merged. Raises NotFound."""
    rows = _ROWS.all(conn, {"tenant": tenant, "calls": [call_id]})
    if not rows:
        aliases = _aliases(conn, _ALIASES, {"tenant": tenant, "ids": [call_id]})
        merged = [alias.call_id for alias in aliases.values() if alias.call_id is not None]
        rows = _ROWS.all(conn, {"tenant": tenant, "calls": merged}) if merged else []
    if not rows:
        raise NotFound(f"tenants/{tenant}/calls/{call_id}")
    return rows[0]


def _rewrite(conn: Connection, row: Mapping[Any, Any], merged: Statement, now: datetime) -> None:
    """Write what changed of a call without an event that says so; its lead has no part in it."""
    derived = call_rows.columns_of(row["tenant_id"], merged, row["first_event_time"])
    etag = ids.etag(row["call_id"], derived["facts"], to_json(derived["field_times"]) or "", now.isoformat())
    key = {"tenant": row["tenant_id"], "call": row["call_id"]}
    _UPDATE.run(conn, key | {**derived, "etag": etag, "update_time": now})


def _aliases(conn: Connection, statement: Hot, parameters: dict[str, Any]) -> dict[str, _Alias]:
    return {
        row["alias_id"]: _Alias(row["alias"], row["place"], row["call_id"])
        for row in statement.all(conn, parameters)
    }


def _name_call(
    conn: Connection, tenant: str, known: dict[str, _Alias], named: dict[str, _Alias]
) -> tuple[str, str]:
    """Write the aliases of what is now one call; its id and the provider's id that it is named after."""
    together = dict(known)
    for alias_id, alias in named.items():
        there = known.get(alias_id)
        place = alias.place if there is None else max(alias.place, there.place)
        together[alias_id] = _Alias(alias.text, place, there.call_id if there else None)
    call_id = min(together, key=lambda alias_id: (together[alias_id].place, together[alias_id].text))
    for alias_id, alias in together.items():
        values = {"call_id": call_id, "place": alias.place}
        if alias_id not in known:
            row = {"tenant_id": tenant, "alias_id": alias_id, "alias": alias.text, **values}
            _INSERT_ALIAS.run(conn, row)
        elif (alias.call_id, alias.place) != (call_id, known[alias_id].place):
            conn.execute(_UPDATE_ALIAS, {"tenant": tenant, "id": alias_id, **values})
    return call_id, together[call_id].text


def _merge(
    conn: Connection, said: Said, call: tuple[str, str], rows: Sequence[Mapping[Any, Any]], now: datetime
) -> Mapping[Any, Any]:
    call_id, provider_call_id = call
    tenant = said.tenant
    merged = said.statement
    for row in rows:
        # `said` is joined last: of equal stamps the later attempt of the same event stands.
        known = call_rows.statement_of(row)
        merged = join(known, without_old_state(known, merged))
    told = _told(conn, said, call_id, rows)
    first_time, last_time = from_microseconds(told.first), from_microseconds(told.last)
    assert first_time is not None
    derived = call_rows.columns_of(tenant, merged, first_time)
    values = {
        **derived,
        "provider_call_id": provider_call_id,
        "first_event_time": first_time,
        "last_event_time": last_time,
        "events_sum": told.sum,
        "etag": _etag(call_id, derived, told.sum),
    }
    there = next((row for row in rows if row["call_id"] == call_id), None)
    if there is not None and len(rows) == 1 and all(there[name] == value for name, value in values.items()):
        return there
    written = {
        "tenant_id": tenant,
        "call_id": call_id,
        "provider": said.provider,
        "provider_account": said.account,
        **values,
        "create_time": min([now, *(row["create_time"] for row in rows)]),
        "update_time": now,
    }
    alone = there is not None and len(rows) == 1
    _write(conn, written, there is None, [] if alone else rows)
    call_events.write(conn, tenant, call_id, told.events, told.there if alone else {})
    _change_leads(conn, tenant, rows, written, now)
    return written


@dataclass(frozen=True, slots=True)
class _CallEvents:
    """What a call's events are once this one is among them."""

    events: Mapping[str, call_events.Moment]  # those to be written, some of them `there` already
    there: Mapping[str, call_events.Moment]
    first: int  # microseconds since 1970
    last: int
    sum: int


def _told(conn: Connection, said: Said, call_id: str, rows: Sequence[Mapping[Any, Any]]) -> _CallEvents:
    """Add the event to those of the call.

    A call may have any number of events, so only this one is looked up. All are read where several calls become one,
    where an event moved in time, and once for a row of an earlier version.
    """
    time, rank, _, event = said.stamp
    if len(rows) == 1 and rows[0]["call_id"] == call_id and rows[0]["events_sum"] is not None:
        row = rows[0]
        before = call_events.of_call(conn, said.tenant, call_id, event)
        if before is None or before >= (time, rank):
            times = [
                to_microseconds(row["first_event_time"]) or 0,
                to_microseconds(row["last_event_time"]) or 0,
            ]
            if before is None:
                total = ids.events_sum([event], row["events_sum"])
                return _CallEvents({event: (time, rank)}, {}, min(*times, time), max(*times, time), total)
            return _CallEvents({}, {}, times[0], times[1], row["events_sum"])
    there = call_events.of_calls(conn, said.tenant, [row["call_id"] for row in rows])
    events = {**there, event: max((time, rank), there.get(event, (time, rank)))}
    moments = events.values()
    return _CallEvents(events, there, min(moments)[0], max(moments)[0], ids.events_sum(events))


def _etag(call_id: str, derived: Mapping[Any, Any], events: int) -> str:
    times = to_json(derived["field_times"]) or ""
    return ids.etag(call_id, derived["facts"], times, str(events))


def _write(conn: Connection, written: dict[str, Any], new: bool, merged: Sequence[Mapping[Any, Any]]) -> None:
    """Write a call's row; those of `merged` are in it now, and their events are written anew."""
    for row in merged:
        key = {"tenant": written["tenant_id"], "call": row["call_id"]}
        call_events.delete(conn, written["tenant_id"], row["call_id"])
        if row["call_id"] != written["call_id"]:
            conn.execute(_DELETE, key)
    if new:
        _INSERT.run(conn, written)
    else:
        key = {"tenant": written["tenant_id"], "call": written["call_id"]}
        _UPDATE.run(conn, key | {name: written[name] for name in written if name not in _FIXED})


def _change_leads(
    conn: Connection,
    tenant: str,
    rows: Sequence[Mapping[Any, Any]],
    written: Mapping[Any, Any],
    now: datetime,
) -> None:
    """Tell each lead that the rows before and the row now count for what they contributed and what it does."""
    numbers = {row["lead_id"]: row["caller_number"] for row in (*rows, written) if row["lead_id"] is not None}
    for lead, number in sorted(numbers.items()):
        old = [lead_rows.part_of(row) for row in rows if row["lead_id"] == lead]
        new = [lead_rows.part_of(row) for row in (written,) if row["lead_id"] == lead]
        if old != new:
            lead_rows.change(conn, tenant, lead, number, (old, new), now)
