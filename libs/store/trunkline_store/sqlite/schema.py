"""Brings the schema of a file up to date, before anybody else sees the file."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection

from trunkline_store.errors import SchemaMismatch, StoreUnsupported
from trunkline_store.migrations import upgrade
from trunkline_store.sqlite.connect import engine_over


def prepare_schema(raw: sqlite3.Connection, metadata: sa.MetaData, migrations: str | None) -> None:
    """Migrate to the head in ONE transaction (SQLite's DDL allows it), or create what is missing.

    A start that is killed half-way leaves the schema as it was.
    """
    engine = engine_over(lambda: raw)
    event.listen(engine, "begin", _begin)
    # Off while tables may be rebuilt; it cannot change inside a transaction.
    raw.execute("PRAGMA foreign_keys=OFF")
    core = engine.connect()
    try:
        with core.begin():
            if migrations is None:
                metadata.create_all(core)
            else:
                upgrade(core, migrations)
            broken = core.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                raise SchemaMismatch(f"rows of {broken[0]} refer to rows of {broken[2]} that are not there")
    finally:
        raw.execute("PRAGMA foreign_keys=ON")
        # The connection is the writer's: given back without closing it.
        core.detach()


def migrate(url: URL, package: str) -> tuple[str | None, str | None]:
    """Refuse: StoreUnsupported."""
    raise StoreUnsupported("a database in a file migrates when it is opened")


def _begin(conn: Connection) -> None:
    conn.exec_driver_sql("BEGIN IMMEDIATE")
