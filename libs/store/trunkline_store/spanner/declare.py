"""Cloud Spanner as an engine: its place, and what tables declare for it already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL

from trunkline_store.clock import Clock
from trunkline_store.database import Database
from trunkline_store.errors import StoreUnsupported


def table_options(
    *, interleave_in: str | None = None, cascade: bool = True, expire: tuple[str, int] | None = None
) -> dict[str, Any]:
    """Return a Table's `info`: the parent it is interleaved in, and (column, days) after which rows go.

    Kept in `info` since SQLAlchemy refuses a dialect's keywords while the dialect is not installed.
    """
    options: dict[str, Any] = {}
    if interleave_in is not None:
        options["interleave_in"] = interleave_in
        options["interleave_on_delete_cascade"] = cascade
    if expire is not None:
        column, days = expire
        options["row_deletion_policy"] = {"column": column, "days": days}
    return {"spanner": options}


def index_options(*, storing: Sequence[str] = (), null_filtered: bool = False) -> dict[str, Any]:
    """Return an Index's `info`: the columns it stores beside its key, and whether it leaves out NULL keys."""
    return {"spanner": {"storing": list(storing), "null_filtered": null_filtered}}


def undeclared(metadata: sa.MetaData) -> list[str]:
    """Return what the options of these tables name that is not there; [] when all is well."""
    problems: list[str] = []
    for table in metadata.tables.values():
        options = table.info.get("spanner", {})
        parent = options.get("interleave_in")
        if parent is not None and parent not in metadata.tables:
            problems.append(f"{table.name}: interleaved in {parent}, which is not a table")
        column = options.get("row_deletion_policy", {}).get("column")
        if column is not None and column not in table.columns:
            problems.append(f"{table.name}: expires by {column}, which is not a column")
        for index in table.indexes:
            for name in index.info.get("spanner", {}).get("storing", ()):
                if name not in table.columns:
                    problems.append(f"{index.name}: stores {name}, which is not a column")
    return problems


async def open_spanner(
    url: URL, metadata: sa.MetaData, *, migrations: str | None, readers: int, clock: Clock
) -> Database:
    """Refuse: this version holds the declarations and not yet the engine."""
    raise StoreUnsupported("Cloud Spanner is not supported by this version: use sqlite:///path")
