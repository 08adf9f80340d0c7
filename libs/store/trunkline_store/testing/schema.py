"""What each service's test of its schema asks: whether its migrations, its tables, and their options agree."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.declare import options_of
from trunkline_store.errors import StoreUnsupported
from trunkline_store.types import on_spanner


def undeclared(metadata: sa.MetaData) -> list[str]:
    """Return what the options of these tables name that is not there; [] when all is well."""
    problems: list[str] = []
    for table in metadata.tables.values():
        options = options_of(table)
        parent = options.get("interleave_in")
        if parent is not None and parent not in metadata.tables:
            problems.append(f"{table.name}: interleaved in {parent}, which is not a table")
        for name in options.get("primary_key", ()):
            if name not in table.columns:
                problems.append(f"{table.name}: has {name} in its key, which is not a column")
        column = options.get("row_deletion_policy", {}).get("column")
        if column is not None and column not in table.columns:
            problems.append(f"{table.name}: expires by {column}, which is not a column")
        for index in table.indexes:
            for name in options_of(index).get("storing", ()):
                if name not in table.columns:
                    problems.append(f"{index.name}: stores {name}, which is not a column")
    return problems


def differences(conn: Connection, metadata: sa.MetaData) -> list[Any]:
    """Return how the database differs from the declared tables, as Alembic tells it: [] when it does not.

    On Spanner, compare what spanner.emulator.Emulator.schema_of() tells of a database that was migrated and of one
    that was created.
    """
    if on_spanner(conn.dialect):
        raise StoreUnsupported("compare schemas on Spanner by their DDL: Emulator.schema_of")
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    return list(compare_metadata(MigrationContext.configure(conn), metadata))
