"""Leads, derived from the calls that count for them: made, changed and dropped in the transaction of a call.

Which calls count: those with a number that belongs to somebody and that are not spam. A wrong number counts
as a call but raises neither level nor score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.common.v1 import labels_pb2
from trunkline.tenant.v1 import lead_pb2
from trunkline_runtime.api.times import timestamp
from trunkline_store.declare import by_index
from trunkline_store.hot import Hot
from trunkline_store.types import to_microseconds

from trunkline_tenant.schema import calls, leads

_TENANT: sa.BindParameter[Any] = sa.bindparam("tenant")
_LEAD: sa.BindParameter[Any] = sa.bindparam("lead")
# Spanner uses an index without NULLs only where it is named, and where it is told that none are asked for.
_OF_LEAD = (calls.c.tenant_id == _TENANT, calls.c.lead_id == _LEAD, calls.c.lead_id.is_not(None))
_LATEST_FIRST = (calls.c.start_time.desc(), calls.c.call_id.desc())
_by_lead = partial(by_index, table=calls, name="calls_by_lead")
_COUNT = sa.func.count().label("so_many")
_NAMED = (*_OF_LEAD, calls.c.caller_name != "")
_FIRST = Hot(
    _by_lead(sa.select(calls.c.start_time))
    .where(*_OF_LEAD)
    .order_by(calls.c.start_time, calls.c.call_id)
    .limit(1)
)
_LAST = Hot(
    _by_lead(sa.select(calls.c.start_time, calls.c.call_id))
    .where(*_OF_LEAD)
    .order_by(*_LATEST_FIRST)
    .limit(1)
)
_NAMING = Hot(
    _by_lead(sa.select(calls.c.start_time, calls.c.call_id, calls.c.caller_name))
    .where(*_NAMED)
    .order_by(*_LATEST_FIRST)
    .limit(1)
)
# Not the bare columns: SQLite would walk the index by intent over all of a tenant's calls, to have them grouped.
_VALUES = [
    (calls.c[name] + sa.literal_column("0")).label(name) for name in ("intent", "lead_level", "lead_score")
]
_BY_VALUES = Hot(_by_lead(sa.select(*_VALUES, _COUNT)).where(*_OF_LEAD).group_by(*_VALUES))
_KEY = (leads.c.tenant_id == _TENANT, leads.c.lead_id == _LEAD)
_ROW = Hot(sa.select(leads.c.display_name, leads.c.tally).where(*_KEY))
_INSERT = Hot(sa.insert(leads))
_UPDATE = Hot(sa.update(leads).where(*_KEY))
_DELETE = sa.delete(leads).where(*_KEY)


class Contribution(NamedTuple):
    """What one call contributes to its lead."""

    level: int
    score: int
    name: str
    start: datetime
    call: str


def part_of(row: Mapping[Any, Any]) -> Contribution:
    """Return what a call's row contributes."""
    level, score = _raised(row)
    return Contribution(level, score, row["caller_name"], row["start_time"], row["call_id"])


def _raised(row: Mapping[Any, Any]) -> tuple[int, int]:
    """Return the level and the score that a call may raise its lead to."""
    if row["intent"] == labels_pb2.INTENT_WRONG_NUMBER:
        return labels_pb2.LEAD_LEVEL_NONE, 0
    return row["lead_level"], row["lead_score"]


def change(
    conn: Connection,
    tenant: str,
    lead: str,
    number: str,
    parts: tuple[Sequence[Contribution], Sequence[Contribution]],
    now: datetime,
) -> None:
    """Make a lead's row what its calls say it is; a lead without calls goes.

    `parts` is what the calls of this transaction contributed before it and contribute now that their rows are
    written. The row keeps how often each value occurs, so that no other call is looked at: a switchboard's number has
    a hundred thousand. A row that does not know that yet is counted once.
    """
    key = {"tenant": tenant, "lead": lead}
    there = _ROW.first(conn, key)
    if there is None or there["tally"] is None:
        tally, name = _counted(conn, key)
    else:
        tally, name = _changed(conn, key, there, parts)
        if not tally["levels"]:
            tally, name = _counted(conn, key)
    last = _LAST.first(conn, key)
    if last is None:
        conn.execute(_DELETE, key)
        return
    first = _FIRST.first(conn, key)
    assert first is not None  # as there is a last one
    values = {
        "call_count": sum(tally["levels"].values()),
        "lead_level": max(map(int, tally["levels"])),
        "lead_score": max(map(int, tally["scores"])),
        "first_call_time": first["start_time"],
        "last_call_time": last["start_time"],
        "last_call_id": last["call_id"],
        "display_name": name,
        "tally": tally,
    }
    if there is not None:
        _UPDATE.run(conn, {**key, **values})
    else:
        row = {"tenant_id": tenant, "lead_id": lead, "phone_number": number, "create_time": now}
        _INSERT.run(conn, {**row, **values})


def _counted(conn: Connection, key: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Return the tally of all of a lead's calls, and the name of the latest that has one."""
    levels: Counter[str] = Counter()
    scores: Counter[str] = Counter()
    for row in _BY_VALUES.all(conn, key):
        level, score = _raised(row)
        levels[str(level)] += row["so_many"]
        scores[str(score)] += row["so_many"]
    tally: dict[str, Any] = {"levels": dict(levels), "scores": dict(scores)}
    return _named(conn, key, tally)


def _named(conn: Connection, key: Mapping[str, str], tally: dict[str, Any]) -> tuple[dict[str, Any], str]:
    naming = _NAMING.first(conn, key)
    if naming is None:
        return {**tally, "name": None}, ""
    return {**tally, "name": [to_microseconds(naming["start_time"]), naming["call_id"]]}, naming[
        "caller_name"
    ]


def _changed(
    conn: Connection,
    key: Mapping[str, str],
    there: Mapping[Any, Any],
    parts: tuple[Sequence[Contribution], Sequence[Contribution]],
) -> tuple[dict[str, Any], str]:
    """Return the tally and the name with the old parts taken away and the new ones added."""
    old, new = parts
    tally: dict[str, Any] = {
        "levels": _moved(there["tally"]["levels"], [p.level for p in old], [p.level for p in new]),
        "scores": _moved(there["tally"]["scores"], [p.score for p in old], [p.score for p in new]),
    }
    naming, name = there["tally"]["name"], there["display_name"]
    lost = naming is not None and naming[1] in {part.call for part in old}
    for part in new:
        place = [to_microseconds(part.start), part.call]
        if part.name and (naming is None or place >= naming):
            naming, name, lost = place, part.name, False
    if lost:  # the call that named the lead does no more: which one does now?
        return _named(conn, key, tally)
    return {**tally, "name": naming}, name


def _moved(counts: Mapping[str, int], old: Sequence[int], new: Sequence[int]) -> dict[str, int]:
    moved = Counter({int(value): count for value, count in counts.items()})
    moved.subtract(old)
    moved.update(new)
    return {str(value): count for value, count in sorted(moved.items()) if count > 0}


def shown(row: Mapping[Any, Any]) -> lead_pb2.Lead:
    """Return a lead as its readers see it."""
    tenant = row["tenant_id"]
    return lead_pb2.Lead(
        name=f"tenants/{tenant}/leads/{row['lead_id']}",
        phone_number=row["phone_number"],
        display_name=row["display_name"],
        call_count=row["call_count"],
        lead_level=row["lead_level"],
        lead_score=row["lead_score"],
        first_call_time=timestamp(row["first_call_time"]),
        last_call_time=timestamp(row["last_call_time"]),
        last_call=f"tenants/{tenant}/calls/{row['last_call_id']}",
        create_time=timestamp(row["create_time"]),
    )
