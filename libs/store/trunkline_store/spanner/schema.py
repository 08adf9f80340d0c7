"""The schema on Spanner: changed by a command, checked at start."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from trunkline_store.callbacks import translate_errors
from trunkline_store.errors import SchemaMismatch, StoreError
from trunkline_store.migrations import current_revision, head_revision, misfit, upgrade
from trunkline_store.spanner import driver
from trunkline_store.spanner.address import parse_address
from trunkline_store.spanner.client import Client
from trunkline_store.spanner.deadline import Deadline
from trunkline_store.spanner.dialect import engine_over
from trunkline_store.spanner.errors import translate

# An index over many rows is filled before its statement ends.
MIGRATION_SECONDS = 6 * 3600.0


def migrate(url: URL, package: str) -> tuple[str | None, str | None]:
    """Bring a database to the head of a package's revisions; (revision before, revision after)."""
    client = Client(parse_address(url))
    try:
        deadline = Deadline(MIGRATION_SECONDS)
        [session] = client.create_sessions(1, Deadline(15.0))
        raw = driver.Connection(client, session)
        with _connect(raw) as conn:
            raw.start("schema", deadline)
            before = _revision(conn)
            upgrade(conn, package)
            raw.finish()
            raw.start("schema", deadline)
            after = current_revision(conn)
        client.delete_session(session, Deadline(2.0))
        return before, after
    finally:
        client.close()


def create_missing(client: Client, session: str, metadata: sa.MetaData, deadline: Deadline) -> None:
    """Create the metadata's missing tables, for tests and scratch databases."""
    raw = driver.Connection(client, session)
    with _connect(raw) as conn:
        raw.start("schema", deadline)
        metadata.create_all(conn)
        raw.finish()


def check_revision(client: Client, session: str, package: str, deadline: Deadline) -> None:
    """Raise SchemaMismatch unless the database is at the revision that the code needs."""
    raw = driver.Connection(client, session)
    with _connect(raw) as conn:
        raw.start("read", deadline)
        there, needed = _revision(conn), head_revision(package)
    if there != needed:
        name = client.address.name
        raise SchemaMismatch(misfit(name, there, package, f"spanner+spanner:///{name}"))


def _revision(conn: Connection) -> str | None:
    try:
        return current_revision(conn)
    except StoreError as exc:
        if "alembic_version" in str(exc):
            return None
        raise


def _connect(raw: driver.Connection) -> Connection:
    engine = engine_over(lambda: raw)
    translate_errors(engine, translate)
    return engine.connect()
