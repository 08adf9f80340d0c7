"""The tables of a queue, and the revision that creates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from trunkline_store import Json, Text, UtcTimestamp
from trunkline_store.declare import by_index, index_options

KEY = ("tenant_id", "job_id")
"""What a job's row is known by."""


def jobs_table(metadata: sa.MetaData, name: str = "jobs", *, by_subject: bool = True) -> sa.Table:
    """Declare a queue's two tables in a service's metadata; the jobs, and `<name>_turns` beside them.

    Without `by_subject` (create_v4) there is no index by subject: where nobody looks for one, or it is the job's id.

    A job that can be claimed, now or later, has `visible_at`: for a leased one it is the lease's end, so that
    an expired lease is found by the same index as a waiting job. Done and dead jobs have none: they leave
    the index, and a million of them cost the claim nothing.
    """
    table = sa.Table(name, metadata, *keyed_columns())
    live = table.c.visible_at.is_not(None)
    leased = table.c.lease_until.is_not(None)
    sa.Index(
        f"{name}_queue",
        table.c.queue_class,
        table.c.shard,
        table.c.tenant_id,
        table.c.visible_at,
        table.c.job_id,
        table.c.group_key,
        sqlite_where=live,
        info=index_options(storing=["group_key"], null_filtered=True),
    )
    sa.Index(
        f"{name}_leases",
        table.c.tenant_id,
        table.c.lease_until,
        table.c.queue_class,
        table.c.group_key,
        sqlite_where=leased,
        info=index_options(storing=["group_key"], null_filtered=True),
    )
    sa.Index(
        f"{name}_owners",
        table.c.lease_owner,
        sqlite_where=table.c.lease_owner.is_not(None),
        info=index_options(null_filtered=True),
    )
    if by_subject:
        sa.Index(f"{name}_subjects", table.c.tenant_id, table.c.subject, info=index_options())
    sa.Index(
        f"{name}_dead",
        table.c.tenant_id,
        table.c.buried_at,
        sqlite_where=table.c.buried_at.is_not(None),
        info=index_options(null_filtered=True),
    )
    # It leads with a time, but holds only the few jobs that nobody has told of.
    sa.Index(
        f"{name}_untold",
        table.c.tell_at,
        table.c.job_id,
        sqlite_where=table.c.tell_at.is_not(None),
        info=index_options(null_filtered=True),
    )
    sa.Table(f"{name}_turns", metadata, *_turn_columns())
    return table


def turns_of(table: sa.Table) -> sa.Table:
    """Return the table that remembers, per class and shard, which tenant was served last."""
    return table.metadata.tables[f"{table.name}_turns"]


def through(statement: sa.Select[Any], table: sa.Table, index: str) -> sa.Select[Any]:
    """Return the statement bound, on Spanner, to one of the indexes above (told by the end of its name)."""
    return by_index(statement, table, f"{table.name}_{index}")


def one_of(table: sa.Table, many: int) -> sa.ColumnElement[bool]:
    """Return the condition that a row is one of so many, whose keys are given as parameters_of() gives them.

    Both engines look each key up. By a comparison of row values, `(tenant_id, job_id) IN ...`, SQLite reads the whole
    table.
    """
    c = table.c
    mine = [
        sa.and_(c.tenant_id == sa.bindparam(f"tenant_{n}"), c.job_id == sa.bindparam(f"job_{n}"))
        for n in range(many)
    ]
    return sa.or_(*mine)


def parameters_of(keys: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters of one_of(): of each key the tenant and the job's id."""
    given = {}
    for n, (tenant, job_id) in enumerate(keys):
        given[f"tenant_{n}"] = tenant
        given[f"job_{n}"] = job_id
    return given


def create_v1(op: Any, name: str = "jobs") -> None:
    """Create a queue's tables as of their first version, from a service's Alembic revision (`op`).

    A later version of this library adds create_v2 and so on: a revision that has run never changes.
    """
    table = jobs_table(sa.MetaData(), name)
    for made, columns in ((table, [*_first_key(), *_columns()]), (turns_of(table), _turn_columns())):
        op.create_table(made.name, *columns)
        for index in sorted(made.indexes, key=lambda one: str(one.name)):
            if index.name != f"{name}_untold":
                create_index(op, made.name, index)


def create_v2(op: Any, name: str = "jobs") -> None:
    """Add the marks of jobs that are to be told of (untold.py), from a service's Alembic revision (`op`)."""
    for column in _telling_columns():
        op.add_column(name, column)
    table = jobs_table(sa.MetaData(), name)
    create_index(op, name, next(index for index in table.indexes if index.name == f"{name}_untold"))


def create_v4(op: Any, name: str = "jobs") -> None:
    """Drop the index by subject, from a service's Alembic revision (`op`), where the queue is declared without one."""
    op.drop_index(f"{name}_subjects", name)


def create_index(op: Any, table: str, index: sa.Index) -> None:
    """Create one of the indexes that jobs_table() declares, from a revision, on a table of whatever name."""
    where = index.dialect_options["sqlite"]["where"]
    columns = [column.name for column in index.columns]
    op.create_index(index.name, table, columns, sqlite_where=where, info=index.info)


def keyed_columns() -> list[sa.Column[Any]]:
    """Return the columns of the jobs, as they are declared."""
    key: list[sa.Column[Any]] = [sa.Column(name, Text(64), primary_key=True) for name in KEY]
    return [*key, *_columns(), *_telling_columns()]


def _first_key() -> list[sa.Column[Any]]:
    return [sa.Column("job_id", Text(64), primary_key=True), sa.Column("tenant_id", Text(64), nullable=False)]


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("queue_class", sa.Integer, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("kind", Text(64), nullable=False),
        sa.Column("subject", Text(256), nullable=False),
        sa.Column("group_key", Text(256)),
        sa.Column("stage", Text(64), nullable=False),
        sa.Column("state", Text(16), nullable=False),
        sa.Column("visible_at", UtcTimestamp),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease_owner", Text(128)),
        sa.Column("lease_token", sa.BigInteger, nullable=False),
        sa.Column("lease_until", UtcTimestamp),
        sa.Column("stage_began_at", UtcTimestamp),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("checkpoint", Json, nullable=False),
        sa.Column("last_error", Json),
        sa.Column("history", Json, nullable=False),
        sa.Column("buried_at", UtcTimestamp),
        sa.Column("created_at", UtcTimestamp, nullable=False),
        sa.Column("updated_at", UtcTimestamp, nullable=False),
    ]


def _telling_columns() -> list[sa.Column[Any]]:
    return [
        # When to tell next that the job ended; NULL where nothing is to be told.
        sa.Column("tell_at", UtcTimestamp),
        # How often telling failed; NULL is never.
        sa.Column("tell_tries", sa.Integer),
    ]


def _turn_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("queue_class", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("tenant_id", Text(64), nullable=False),
    ]
