"""What tables and queries declare for an engine that needs it said; the others pass over it.

It is kept in `info`, since SQLAlchemy refuses the keywords of a dialect that is not installed.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from trunkline_store.types import UtcTimestamp, on_spanner

_Select = TypeVar("_Select", bound=sa.Select[Any])

PENDING_SHARDS = 8
KEY_BITS = 63
_SPANNER = "spanner+spanner"  # the dialect's name, for Select.with_hint


def table_options(
    *,
    interleave_in: str | None = None,
    cascade: bool = True,
    expire: tuple[str, int] | None = None,
    key: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a Table's `info`: the parent it is interleaved in, and (column, days) after which rows go.

    `key` is the order of the primary key's columns on Spanner, where it is another one than on SQLite.

    `expire` names a UtcTimestamp column of the table; Spanner deletes such rows within 72 hours of that day, so
    queries that must not show them filter as well.
    """
    options: dict[str, Any] = {}
    if interleave_in is not None:
        options["interleave_in"] = interleave_in
        options["interleave_on_delete_cascade"] = cascade
    if expire is not None:
        column, days = expire
        options["row_deletion_policy"] = {"column": column, "days": days}
    if key:
        options["primary_key"] = list(key)
    return {"spanner": options}


def index_options(*, storing: Sequence[str] = (), null_filtered: bool = False) -> dict[str, Any]:
    """Return an Index's `info`: the columns it stores beside its key, and whether it leaves out NULL keys.

    A stored column that is also among the index's columns (SQLite covers a query so) is taken out of the key on
    Spanner: there a NULL_FILTERED index leaves out a row for a NULL in any column of its key. Queries that are to
    use such an index name it: `by_index(select, table, name)`.
    """
    return {"spanner": {"storing": list(storing), "null_filtered": null_filtered}}


def by_index(query: _Select, table: sa.Table, name: str) -> _Select:
    """Return the query going by an index of the table: Spanner uses NULL_FILTERED ones only when told.

    KeyError: the table has no such index.
    """
    if name not in {index.name for index in table.indexes}:
        raise KeyError(f"{table.name} has no index {name}")
    return query.with_hint(table, f"@{{FORCE_INDEX={name}}}", _SPANNER)


def pending_column(name: str = "pending", shards: int = PENDING_SHARDS) -> sa.Column[int]:
    """Return the mark of an append-only table whose rows somebody still has to look at.

    On Spanner the key of an append-only table (one with an autoincrement integer) is random, so no cursor can
    follow it. There the appender puts a shard, 0 to `shards` - 1, into this column of each row; a NULL_FILTERED
    index (pending, time) lists what is left, shard by shard, and who is done with a row sets the column to NULL.
    On SQLite it stays NULL: a cursor over the growing key does the same for less.
    """
    return sa.Column(name, sa.Integer, nullable=True, info={"spanner": {"pending_shards": shards}})


def pending_index(name: str, *columns: str, pending: str = "pending") -> sa.Index:
    """Return the index of a pending column: (pending, *columns), of the rows that are pending; empty on SQLite."""
    return sa.Index(
        name,
        pending,
        *columns,
        sqlite_where=sa.column(pending).is_not(None),
        info=index_options(null_filtered=True),
    )


def key_from(column: str) -> dict[str, Any]:
    """Return the `info` of an append-only table's key that on Spanner is `derived_key` of another, unique column.

    Such a row is found by that column without an index, and a row that is sent again after its answer was lost, or
    while the first is still on its way, is kept once.
    """
    return {"spanner": {"key_from": column}}


def derived_key(unique: str) -> int:
    """Return the 63 bits that are the key of a row with that unique text."""
    return int.from_bytes(hashlib.blake2b(unique.encode(), digest_size=8).digest(), "big") >> 1


def engines_own(table: sa.Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the appender puts into a row of an append-only table beside `values`: its key and its marks."""
    filled = table.autoincrement_column
    if filled is None:
        return {}
    source = options_of(filled).get("key_from")
    key = secrets.randbits(KEY_BITS) if source is None else derived_key(values[source])
    marks = {column.name: shards_of(column) for column in table.columns}
    return {filled.name: key} | {name: key % shards for name, shards in marks.items() if shards}


def commit_time_column(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    """Return a timestamp column that on Spanner may hold the commit's own time (PENDING_COMMIT_TIMESTAMP())."""
    return sa.Column(name, UtcTimestamp, nullable=nullable, info={"spanner": {"commit_timestamp": True}})


def commit_time(conn: sa.Connection, now: datetime) -> Any:
    """Return what to write into such a column: on Spanner the commit's own time, elsewhere `now`.

    As a value of an insert or update that is built for it, not as a parameter. On Spanner the rest of the transaction
    must not read the column any more.
    """
    return sa.func.PENDING_COMMIT_TIMESTAMP() if on_spanner(conn.dialect) else now


def shards_of(column: sa.Column[Any]) -> int | None:
    """Return over how many shards a pending column spreads, None for any other column."""
    shards: int | None = column.info.get("spanner", {}).get("pending_shards")
    return shards


def options_of(item: sa.Table | sa.Index | sa.Column[Any]) -> dict[str, Any]:
    """Return what was declared for Spanner."""
    options: dict[str, Any] = item.info.get("spanner", {})
    return options
