"""SQLAlchemy's Spanner dialect over the store's driver; DDL takes its options from `info`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic.ddl.impl import DefaultImpl
from google.cloud.sqlalchemy_spanner.sqlalchemy_spanner import (
    SpannerDDLCompiler,
    SpannerDialect,
    SpannerSQLCompiler,
)
from sqlalchemy.dialects import registry
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.default import DefaultDialect, DefaultExecutionContext
from sqlalchemy.pool import NullPool

from trunkline_store.declare import options_of
from trunkline_store.spanner import driver


class StoreSQLCompiler(SpannerSQLCompiler):  # type: ignore[misc]
    """Writes what the dialect leaves as SQLite takes it."""

    def visit_is__binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Return a comparison by IS; Spanner takes no parameter after it."""
        left, right = (self.process(side, **kw) for side in (binary.left, binary.right))
        if isinstance(binary.right, sa.BindParameter):
            return f"({left} IS NOT NULL AND {left} = {right})"
        return f"{left} IS {right}"

    def visit_is_not_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Return its opposite."""
        left, right = (self.process(side, **kw) for side in (binary.left, binary.right))
        if isinstance(binary.right, sa.BindParameter):
            return f"({left} IS NULL OR {left} != {right})"
        return f"{left} IS NOT {right}"


class StoreDDLCompiler(SpannerDDLCompiler):  # type: ignore[misc]
    """Writes what tables, columns and indexes declare for Spanner."""

    def get_column_specification(self, column: sa.Column[Any], **kw: Any) -> str:
        """Return a column's DDL."""
        text: str = super().get_column_specification(column, **kw)
        if options_of(column).get("commit_timestamp"):
            text += " OPTIONS (allow_commit_timestamp=true)"
        return text

    def post_create_table(self, table: sa.Table) -> str:
        """Return the key, the parent and the policy that follow a table's columns."""
        options = options_of(table)
        names = options.get("primary_key") or [column.name for column in table.primary_key.columns]
        text = f" PRIMARY KEY ({', '.join(self.preparer.quote(name) for name in names)})"
        parent = options.get("interleave_in")
        if parent is not None:
            text += f",\nINTERLEAVE IN PARENT {self.preparer.quote(parent)}"
            if options.get("interleave_on_delete_cascade", True):
                text += " ON DELETE CASCADE"
        policy = options.get("row_deletion_policy")
        if policy is not None:
            column = self.preparer.quote(policy["column"])
            text += f",\nROW DELETION POLICY (OLDER_THAN({column}, INTERVAL {int(policy['days'])} DAY))"
        return text

    def visit_create_index(self, create: Any, *args: Any, **kw: Any) -> str:
        """Return an index's DDL; columns that it stores are no part of its key here."""
        index, options = create.element, options_of(create.element)
        stored = list(options.get("storing", ()))
        key = [column.name for column in index.columns if column.name not in stored]
        kind = (
            f"{'UNIQUE ' if index.unique else ''}{'NULL_FILTERED ' if options.get('null_filtered') else ''}"
        )
        quote = self.preparer.quote
        text = (
            f"CREATE {kind}INDEX {quote(index.name)} ON {self.preparer.format_table(index.table)} "
            f"({', '.join(quote(name) for name in key)})"
        )
        if stored:
            text += f" STORING ({', '.join(quote(name) for name in stored)})"
        return text


class StoreSpannerDialect(SpannerDialect):  # type: ignore[misc]
    """The dialect, with nothing of the DB-API that comes with the client."""

    statement_compiler = StoreSQLCompiler
    ddl_compiler = StoreDDLCompiler
    execution_ctx_cls = DefaultExecutionContext
    supports_statement_cache = True
    supports_sane_rowcount = True
    use_insertmanyvalues = False

    @classmethod
    def import_dbapi(cls) -> Any:
        """Return the store's driver."""
        return driver

    def create_connect_args(self, url: URL) -> Any:
        """Return nothing: connections are made by who holds the sessions."""
        return [], {}

    def initialize(self, connection: Connection) -> None:
        """Ask nothing of the server: there is nothing to find out."""
        self.server_version_info = ()
        self.default_schema_name = ""

    def get_isolation_level(self, conn_proxy: Any) -> str:
        """Return the only level."""
        return "SERIALIZABLE"

    do_commit = DefaultDialect.do_commit
    do_rollback = DefaultDialect.do_rollback
    do_close = DefaultDialect.do_close
    do_execute = DefaultDialect.do_execute
    do_executemany = DefaultDialect.do_executemany
    do_execute_no_params = DefaultDialect.do_execute_no_params


class StoreSpannerImpl(DefaultImpl):
    """Alembic on Spanner: its DDL knows no transactions."""

    __dialect__ = "spanner+spanner"
    transactional_ddl = False


registry.register("trunkline.spanner", __name__, "StoreSpannerDialect")


def engine_over(creator: Callable[[], driver.Connection]) -> Engine:
    """Return an engine over connections that somebody else governs."""
    return sa.create_engine(
        "trunkline+spanner://", creator=creator, poolclass=NullPool, pool_reset_on_return=None
    )
