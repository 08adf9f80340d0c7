"""Charges as rows: each counted once, by engine and day, and by month."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.common.v1 import usage_pb2
from trunkline.tenant.v1 import cost_pb2
from trunkline_store import insert_if_absent
from trunkline_store.inserts import BulkInsert

from trunkline_tenant.schema import charges, day_costs, month_costs

REMEMBERED = timedelta(days=40)
"""How long a charge that is told again is known."""

_NEW_CHARGES = BulkInsert(
    charges, ("tenant_id", "charge_id", "expire_at"), if_absent=("tenant_id", "charge_id")
)


def month_of(at: datetime) -> str:
    """Return the month of a time, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m")


def end_of(month: str) -> datetime:
    """Return when a month ends."""
    year, number = int(month[:4]), int(month[5:])
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def add(
    conn: Connection, tenant: str, service: str, given: Sequence[cost_pb2.Charge], now: datetime
) -> dict[str, int]:
    """Count those charges that are not counted yet; what they cost, by month."""
    rows = {charge.id: (tenant, charge.id, now + REMEMBERED) for charge in given}
    new = {key[1] for key in _NEW_CHARGES.run(conn, list(rows.values()))}
    by_day: dict[tuple[str, str], Counter[str]] = {}
    by_month: dict[str, Counter[str]] = {}
    for charge in {charge.id: charge for charge in given if charge.id in new}.values():
        at = charge.create_time.ToDatetime(UTC)
        counted = _counted(charge)
        by_day.setdefault((at.strftime("%Y-%m-%d"), charge.engine), Counter()).update(counted)
        by_month.setdefault(month_of(at), Counter()).update(counted)
    for (day, engine), sums in sorted(by_day.items()):
        _count(conn, day_costs, {"tenant_id": tenant, "day": day, "service": service, "engine": engine}, sums)
    for month, sums in sorted(by_month.items()):
        _count(conn, month_costs, {"tenant_id": tenant, "month": month}, sums)
    return {month: sums["cost_micros"] for month, sums in by_month.items()}


def month_row(conn: Connection, tenant: str, month: str) -> Mapping[Any, Any] | None:
    """Return what a tenant's month comes to, None if nothing was counted."""
    c = month_costs.c
    query = sa.select(month_costs).where(c.tenant_id == tenant, c.month == month)
    return conn.execute(query).mappings().first()


def day_rows(conn: Connection, tenant: str, month: str) -> Sequence[Mapping[Any, Any]]:
    """Return a tenant's month by day, service, and engine, in this order."""
    c = day_costs.c
    query = sa.select(day_costs).where(c.tenant_id == tenant, c.day >= month, c.day < f"{month}-99")
    return conn.execute(query.order_by(c.day, c.service, c.engine)).mappings().all()


def usage_of(sums: Mapping[Any, Any]) -> usage_pb2.EngineUsage:
    """Return what was counted, as its readers see it."""
    usage = usage_pb2.EngineUsage(
        input_tokens=sums["input_tokens"],
        output_tokens=sums["output_tokens"],
        cost_micros=sums["cost_micros"],
    )
    if sums["audio_us"]:
        usage.audio_duration.FromMicroseconds(sums["audio_us"])
    return usage


def _counted(charge: cost_pb2.Charge) -> dict[str, int]:
    usage = charge.usage
    return {
        "answers": 1,
        "unpriced": int(charge.unpriced),
        "input_tokens": max(0, usage.input_tokens),
        "output_tokens": max(0, usage.output_tokens),
        "audio_us": max(0, usage.audio_duration.ToMicroseconds()),
        "cost_micros": max(0, usage.cost_micros),
    }


def _count(conn: Connection, table: sa.Table, key: Mapping[str, str], sums: Mapping[str, int]) -> None:
    if insert_if_absent(conn, table, {**key, **sums}, list(key)):
        return
    itself = [table.c[name] == value for name, value in key.items()]
    more = {name: table.c[name] + value for name, value in sums.items()}
    conn.execute(sa.update(table).where(*itself).values(**more))
