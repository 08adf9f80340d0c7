"""Cloud Spanner as an engine; importing this package loads nothing of google.cloud, opening a database does."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import URL

from trunkline_store.clock import Clock
from trunkline_store.database import Database
from trunkline_store.errors import StoreUnsupported
from trunkline_store.spanner.declare import (
    SPANNER,
    commit_time,
    commit_time_column,
    derived_key,
    engines_own,
    force_index,
    index_options,
    key_from,
    options_of,
    pending_column,
    pending_index,
    shards_of,
    table_options,
    undeclared,
)

__all__ = [
    "SPANNER",
    "commit_time",
    "commit_time_column",
    "derived_key",
    "engines_own",
    "force_index",
    "index_options",
    "key_from",
    "open_spanner",
    "options_of",
    "pending_column",
    "pending_index",
    "shards_of",
    "table_options",
    "undeclared",
]


async def open_spanner(
    url: URL, metadata: sa.MetaData, *, migrations: str | None, readers: int, clock: Clock
) -> Database:
    """Open a database on Spanner; see Database.open."""
    try:
        from trunkline_store.spanner.engine import SpannerDatabase  # noqa: PLC0415 - 0.5 s, 60 MB: when used
    except ImportError as exc:
        raise StoreUnsupported(f"Cloud Spanner needs trunkline-store[spanner] installed: {exc}") from exc
    return await SpannerDatabase.open_url(url, metadata, migrations=migrations, readers=readers, clock=clock)
