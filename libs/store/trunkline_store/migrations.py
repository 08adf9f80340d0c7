"""Alembic's revisions: on SQLite run at start, inside the store's own transaction; on Spanner by a command.

A service keeps `trunkline_<service>/migrations/versions/0001_*.py`; no ini file, no env.py. The same revisions
serve both engines: what Spanner needs beyond (interleaving, STORING, ...) stands in the `info` that
op.create_table and op.create_index take, made by trunkline_store.declare's table_options and index_options, and
in its column helpers. What only one engine can do goes under `if on_spanner(op.get_bind().dialect)`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.engines import module_of
from trunkline_store.errors import SchemaMismatch, StoreError
from trunkline_store.types import on_spanner


def migrate(url: str, package: str) -> tuple[str | None, str | None]:
    """Bring a database on Spanner to the head of a package's revisions; (revision before, revision after).

    Expand first, deploy, contract later: servers whose revision does not fit stay NOT_SERVING. Each revision is
    recorded when its DDL has run; one that failed half-way has to be mended by hand, as Spanner's DDL knows no
    transactions. SQLite migrates itself at start: StoreUnsupported.
    """
    parsed = sa.make_url(url)
    before_and_after: tuple[str | None, str | None] = module_of(parsed.drivername, "schema").migrate(
        parsed, package
    )
    return before_and_after


def upgrade(conn: Connection, package: str, revision: str = "head") -> None:
    """Bring the schema to a revision, in the transaction that `conn` is in; nothing to do is quick.

    Raises SchemaMismatch when the database holds a revision that the package does not know.
    """
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415 - 0.1 s, needed at start only
    from alembic.util import CommandError  # noqa: PLC0415

    script = _scripts(package)

    def steps(current: Any, _: Any) -> Any:
        return script._upgrade_revs(revision, current)

    try:
        with EnvironmentContext(_config(package), script, fn=steps, destination_rev=revision) as environment:
            on_sqlite = not on_spanner(conn.dialect)
            # On Spanner a key cannot be updated, so the version's table has an empty one: it holds one row.
            environment.configure(
                connection=conn,
                transactional_ddl=on_sqlite,
                transaction_per_migration=False,
                version_table_pk=on_sqlite,
            )
            environment.run_migrations()
    except CommandError as exc:
        raise SchemaMismatch(misfit("the database", current_revision(conn), package)) from exc


def current_revision(conn: Connection) -> str | None:
    """Return the revision that the database is at, None before the first."""
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    return MigrationContext.configure(conn).get_current_revision()


def head_revision(package: str) -> str | None:
    """Return the newest revision that the code knows."""
    head: str | None = _scripts(package).get_current_head()
    return head


def misfit(where: str, there: str | None, package: str, url: str = "URL") -> str:
    """Say that a database is at another revision than a package needs, and what to do."""
    told = (
        f"{where} is at revision {there or 'none'} and {package} needs {head_revision(package) or 'none'}: "
    )
    if there is None or any(known.revision == there for known in _scripts(package).walk_revisions()):
        return f"{told}run python -m trunkline_store.migrate {url} {package}"
    return f"{told}a newer version wrote it; deploy that one"


def _scripts(package: str) -> Any:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return ScriptDirectory.from_config(_config(package))


def _config(package: str) -> Any:
    from alembic.config import Config  # noqa: PLC0415

    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StoreError(f"{package} is not a package")
    config = Config()
    folder = Path(next(iter(spec.submodule_search_locations)))
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
