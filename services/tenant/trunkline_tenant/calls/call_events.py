"""Which events told us something about a call, and when they happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store.hot import Hot
from trunkline_store.types import from_microseconds, to_microseconds

from trunkline_tenant.schema import call_events as table

# Microseconds since 1970, and the rank.
Moment = tuple[int, int]

_SHOWN = 50
_OF_CALL = (table.c.tenant_id == sa.bindparam("tenant"), table.c.call_id == sa.bindparam("call"))
_OF_CALLS = Hot(
    sa.select(table).where(
        table.c.tenant_id == sa.bindparam("tenant"),
        table.c.call_id.in_(sa.bindparam("calls", expanding=True)),
    )
)
_ONE = Hot(
    sa.select(table.c.event_time, table.c.rank).where(*_OF_CALL, table.c.event_id == sa.bindparam("event"))
)
_LATEST = (
    sa.select(table.c.event_id)
    .where(*_OF_CALL)
    .order_by(table.c.event_time.desc(), table.c.rank.desc(), table.c.event_id.desc())
    .limit(_SHOWN)
)
_INSERT = Hot(sa.insert(table))
_UPDATE = sa.update(table).where(*_OF_CALL, table.c.event_id == sa.bindparam("event"))
_DELETE = sa.delete(table).where(*_OF_CALL)


def of_calls(conn: Connection, tenant: str, calls: Sequence[str]) -> dict[str, Moment]:
    """Return the events of these calls by id; of one that several have, the latest moment."""
    if not calls:
        return {}
    found: dict[str, Moment] = {}
    for row in _OF_CALLS.all(conn, {"tenant": tenant, "calls": list(calls)}):
        moment = (to_microseconds(row["event_time"]) or 0, row["rank"])
        found[row["event_id"]] = max(moment, found.get(row["event_id"], moment))
    return found


def of_call(conn: Connection, tenant: str, call: str, event: str) -> Moment | None:
    """Return the moment of one event of a call, None when the call does not know of it."""
    row = _ONE.first(conn, {"tenant": tenant, "call": call, "event": event})
    return None if row is None else (to_microseconds(row["event_time"]) or 0, row["rank"])


def latest(conn: Connection, tenant: str, call: str) -> list[str]:
    """Return the ids of a call's last events, the latest first."""
    return list(conn.execute(_LATEST, {"tenant": tenant, "call": call}).scalars())


def write(
    conn: Connection, tenant: str, call: str, events: Mapping[str, Moment], there: Mapping[str, Moment]
) -> None:
    """Write those of a call's events that are not `there` already."""
    for event, moment in events.items():
        values = {"event_time": from_microseconds(moment[0]), "rank": moment[1]}
        if event not in there:
            _INSERT.run(conn, {"tenant_id": tenant, "call_id": call, "event_id": event, **values})
        elif there[event] != moment:
            conn.execute(_UPDATE, {"tenant": tenant, "call": call, "event": event, **values})


def delete(conn: Connection, tenant: str, call: str) -> None:
    """Delete all of a call's events."""
    conn.execute(_DELETE, {"tenant": tenant, "call": call})
