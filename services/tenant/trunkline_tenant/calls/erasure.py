"""Erasing a call: its row, its events and its share of its lead go; its aliases stay as tombstones.

A tombstone is an alias without text at a place that no event names. An event that names one of them is about the
erased call, and the further ids that it names are erased too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_runtime.errors import NotFound
from trunkline_store.inserts import insert_if_absent

from trunkline_tenant.calls import call_events
from trunkline_tenant.leads import rows as lead_rows
from trunkline_tenant.schema import call_aliases, calls

ERASED = -1
"""The place of an alias of an erased call."""


class Alias(Protocol):
    """What is looked at of a call's alias."""

    @property
    def place(self) -> int:
        """Where events name it."""

    @property
    def call_id(self) -> str | None:
        """The call that it is one of."""


def meets(conn: Connection, tenant: str, known: Mapping[str, Alias], named: Collection[str]) -> bool:
    """Whether one of the aliases that an event names is of an erased call; the others are erased then as well."""
    call = next((alias.call_id for alias in known.values() if alias.place == ERASED), None)
    if call is None:
        return False
    for alias_id in named:
        if alias_id not in known:
            leave(conn, tenant, alias_id, call)
    return True


def erase(conn: Connection, tenant: str, call_id: str, now: datetime) -> tuple[list[str], bool]:
    """Erase a call; all ids that it had, and whether it was there. Raises NotFound for one that never was."""
    own = call_aliases.c.tenant_id == tenant
    canonical = sa.select(call_aliases.c.call_id).where(own, call_aliases.c.alias_id == call_id)
    call_id = conn.execute(canonical).scalar() or call_id
    row = conn.execute(
        sa.select(calls).where(calls.c.tenant_id == tenant, calls.c.call_id == call_id)
    ).mappings().first()  # fmt: skip
    names = conn.execute(sa.select(call_aliases.c.alias_id).where(own, call_aliases.c.call_id == call_id))
    found = sorted({call_id, *names.scalars()})
    if row is None and found == [call_id] and not _is_erased(conn, tenant, call_id):
        raise NotFound(f"tenants/{tenant}/calls/{call_id}")
    mine = (own, call_aliases.c.call_id == call_id)
    conn.execute(sa.update(call_aliases).where(*mine).values(alias="", place=ERASED))
    leave(conn, tenant, call_id, call_id)
    if row is not None:
        _delete(conn, row, now)
    return found, row is not None


def _delete(conn: Connection, row: Mapping[Any, Any], now: datetime) -> None:
    tenant, call_id = row["tenant_id"], row["call_id"]
    call_events.delete(conn, tenant, call_id)
    conn.execute(sa.delete(calls).where(calls.c.tenant_id == tenant, calls.c.call_id == call_id))
    if row["lead_id"] is not None:
        before = [lead_rows.part_of(row)]
        lead_rows.change(conn, tenant, row["lead_id"], row["caller_number"], (before, []), now)


def leave(conn: Connection, tenant: str, alias_id: str, call_id: str) -> None:
    """Leave a tombstone of one id of an erased call, unless the id is there."""
    row = {"tenant_id": tenant, "alias_id": alias_id, "call_id": call_id, "alias": "", "place": ERASED}
    insert_if_absent(conn, call_aliases, row, ["tenant_id", "alias_id"])


def _is_erased(conn: Connection, tenant: str, call_id: str) -> bool:
    place = sa.select(call_aliases.c.place).where(
        call_aliases.c.tenant_id == tenant, call_aliases.c.alias_id == call_id
    )
    return bool(conn.execute(place).scalar() == ERASED)
