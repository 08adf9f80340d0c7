"""Deleted tenants, carried from the state that is replaced into the one that takes its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from trunkline_ai import schema as ai
from trunkline_audio import schema as audio
from trunkline_gateway import schema as gateway
from trunkline_gateway.events.tenant_deletion import purge_here
from trunkline_store import Database
from trunkline_store.records.deletion import delete_all
from trunkline_store.records.tombstones import bury
from trunkline_store.types import from_microseconds
from trunkline_tenant import schema as tenant
from trunkline_tenant.tenants import deletion

from trunkline_cli.backup.files import connect
from trunkline_cli.backup.layout import SERVICES

_KEPT = "SELECT tenant_id, deleted_at FROM deleted_tenants"
_QUERIES = {
    "gateway": _KEPT,
    "audio": _KEPT,
    "ai": _KEPT,
    "tenant": "SELECT tenant_id, delete_time FROM tenants WHERE delete_time IS NOT NULL",
}
_METADATA = {
    "gateway": gateway.metadata,
    "audio": audio.metadata,
    "ai": ai.metadata,
    "tenant": tenant.metadata,
}


def known_tombstones(databases: Mapping[str, Path]) -> tuple[dict[str, datetime], list[str]]:
    """Return the deleted tenants that any of the databases knows of, and which databases could not be read."""
    found: dict[str, datetime] = {}
    unread = []
    for name in SERVICES:
        if not databases[name].exists():
            continue
        try:
            with closing(connect(databases[name])) as conn:
                rows = conn.execute(_QUERIES[name]).fetchall()
        except sqlite3.Error as error:
            unread.append(f"{databases[name]}: {error}")
            continue
        for deleted, at in rows:
            time = from_microseconds(at) or datetime.now(UTC)
            found[deleted] = min(time, found.get(deleted, time))
    return found, unread


async def bring_up(name: str, file: Path, deleted: Mapping[str, datetime]) -> int:
    """Open a service's database as the service would, migrations included, and remove deleted tenants from it.

    Returns how many rows went. Raises SchemaMismatch for a database that is newer than this code.
    """
    db = await Database.open(f"sqlite:///{file}", _METADATA[name], migrations=f"trunkline_{name}.migrations")
    try:
        return sum([await _remove(name, db, gone, at) for gone, at in deleted.items()])
    finally:
        await db.close()


async def _remove(name: str, db: Database, gone: str, at: datetime) -> int:
    """Do what the service does when the gateway tells it of a deleted tenant."""
    if name == "tenant":
        removed, more = 0, True
        while more:
            step, more = await deletion.purge(db, gone)
            removed += step
        return removed
    tables = _METADATA[name].tables
    await db.write(lambda conn: bury(conn, tables["deleted_tenants"], gone, at))
    if name == "gateway":
        return await purge_here(db, gone)
    kept = {"audio": (audio.transcripts, audio.recordings), "ai": (ai.analyses,)}[name]
    return sum([await delete_all(db, table, table.c.tenant_id == gone) for table in kept])
