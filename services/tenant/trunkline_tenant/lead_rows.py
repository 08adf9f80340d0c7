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
from trunkline_store.declare import by_index
from trunkline_store.hot import Hot

from trunkline_tenant.schema import calls, leads
from trunkline_tenant.times import timestamp

_TENANT: sa.BindParameter[Any] = sa.bindparam("tenant")
_LEAD: sa.BindParameter[Any] = sa.bindparam("lead")
# Spanner uses an index without NULLs only where it is named, and where it is told that none are asked for.
_OF_LEAD = (calls.c.tenant_id == _TENANT, calls.c.lead_id == _LEAD, calls.c.lead_id.is_not(None))
_LATEST_FIRST = (calls.c.start_time.desc(), calls.c.call_id.desc())
_WRONG_NUMBER = calls.c.intent == labels_pb2.INTENT_WRONG_NUMBER
_LEVEL = sa.case((_WRONG_NUMBER, labels_pb2.LEAD_LEVEL_NONE), else_=calls.c.lead_level)
_SCORE = sa.case((_WRONG_NUMBER, 0), else_=calls.c.lead_score)
_LATEST = (
    by_index(sa.select(calls.c.call_id), calls, "calls_by_lead")
    .where(*_OF_LEAD)
    .order_by(*_LATEST_FIRST)
    .limit(1)
    .correlate(None)
)
_LATEST_NAME = (
    by_index(sa.select(calls.c.caller_name), calls, "calls_by_lead")
    .where(*_OF_LEAD, calls.c.caller_name != "")
    .order_by(*_LATEST_FIRST)
    .limit(1)
    .correlate(None)
)
_DERIVED = Hot(
    by_index(
        sa.select(
            sa.func.count().label("call_count"),
            sa.func.max(_LEVEL).label("lead_level"),
            sa.func.max(_SCORE).label("lead_score"),
            sa.func.min(calls.c.start_time).label("first_call_time"),
            sa.func.max(calls.c.start_time).label("last_call_time"),
            _LATEST.scalar_subquery().label("last_call_id"),
            sa.func.coalesce(_LATEST_NAME.scalar_subquery(), "").label("display_name"),
        ),
        calls,
        "calls_by_lead",
    ).where(*_OF_LEAD)
)
_KEY = (leads.c.tenant_id == _TENANT, leads.c.lead_id == _LEAD)
_INSERT = Hot(sa.insert(leads))
_UPDATE = Hot(sa.update(leads).where(*_KEY))
_DELETE = sa.delete(leads).where(*_KEY)


def refresh(conn: Connection, tenant: str, lead: str, number: str, now: datetime) -> None:
    """Make a lead's row what its calls say it is; a lead without calls goes."""
    key = {"tenant": tenant, "lead": lead}
    derived = _DERIVED.first(conn, key)
    assert derived is not None  # an aggregate always has its row
    if derived["call_count"] == 0:
        conn.execute(_DELETE, key)
    elif _UPDATE.run(conn, {**key, **derived}) == 0:
        row = {"tenant_id": tenant, "lead_id": lead, "phone_number": number, "create_time": now}
        _INSERT.run(conn, {**row, **derived})


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
