"""Leads, derived from the calls that count for them: made, changed and dropped in the transaction of a call.

Which calls count: those with a number that belongs to somebody and that are not spam. A wrong number counts
as a call but raises neither level nor score.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.common.v1 import labels_pb2
from trunkline.tenant.v1 import lead_pb2

from trunkline_tenant.schema import calls, leads
from trunkline_tenant.times import timestamp

_LEAD = (calls.c.tenant_id == sa.bindparam("tenant"), calls.c.lead_id == sa.bindparam("lead"))
_WRONG_NUMBER = calls.c.intent == labels_pb2.INTENT_WRONG_NUMBER
_TOTALS = sa.select(
    sa.func.count().label("call_count"),
    sa.func.max(sa.case((_WRONG_NUMBER, labels_pb2.LEAD_LEVEL_NONE), else_=calls.c.lead_level)).label(
        "lead_level"
    ),
    sa.func.max(sa.case((_WRONG_NUMBER, 0), else_=calls.c.lead_score)).label("lead_score"),
    sa.func.min(calls.c.start_time).label("first_call_time"),
    sa.func.max(calls.c.start_time).label("last_call_time"),
).where(*_LEAD)
_LATEST = (
    sa.select(calls.c.call_id, calls.c.caller_name)
    .where(*_LEAD)
    .order_by(calls.c.start_time.desc(), calls.c.call_id.desc())
    .limit(1)
)
_LATEST_NAME = _LATEST.where(calls.c.caller_name != "")
_ROW = sa.select(leads).where(
    leads.c.tenant_id == sa.bindparam("tenant"), leads.c.lead_id == sa.bindparam("lead")
)
_KEY = (leads.c.tenant_id == sa.bindparam("tenant"), leads.c.lead_id == sa.bindparam("lead"))
_INSERT = sa.insert(leads)
_UPDATE = sa.update(leads).where(*_KEY)
_DELETE = sa.delete(leads).where(*_KEY)


def refresh(conn: Connection, tenant: str, lead: str, number: str, now: datetime) -> None:
    """Make a lead's row what its calls say it is; a lead without calls goes."""
    key = {"tenant": tenant, "lead": lead}
    there = conn.execute(_ROW, key).mappings().first()
    totals = conn.execute(_TOTALS, key).mappings().one()
    if totals["call_count"] == 0:
        if there is not None:
            conn.execute(_DELETE, key)
        return
    latest = conn.execute(_LATEST, key).one()
    name = latest.caller_name
    if not name:
        named = conn.execute(_LATEST_NAME, key).first()
        name = named.caller_name if named is not None else ""
    derived = {**totals, "last_call_id": latest.call_id, "display_name": name}
    if there is None:
        conn.execute(
            _INSERT,
            {"tenant_id": tenant, "lead_id": lead, "phone_number": number, "create_time": now, **derived},
        )
    elif any(there[column] != value for column, value in derived.items()):
        conn.execute(_UPDATE, {**key, **derived})


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
