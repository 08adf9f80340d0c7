"""Rows that are there until their time has come: whether they are deleted by then or not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa


def expiry(given: datetime | None, days: int, now: datetime) -> datetime | None:
    """Return when what is made now goes: as its maker said, else after so many days, else (0 days) never."""
    if given is not None:
        return given
    return now + timedelta(days=days) if days else None


def is_over(expire_at: datetime | None, now: datetime) -> bool:
    """Tell whether a row's time has come; never when it is None."""
    return expire_at is not None and expire_at <= now


def lives(expire_at: sa.ColumnElement[Any], now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of rows whose time has not come."""
    return sa.or_(expire_at.is_(None), expire_at > now)


def overdue(table: sa.Table, tenant: str, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of a tenant's rows whose `expire_at` has come."""
    return sa.and_(table.c.tenant_id == tenant, table.c.expire_at <= now)
