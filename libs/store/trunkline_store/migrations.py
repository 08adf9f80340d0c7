"""Alembic's revisions, run inside the store's own transaction.

A service keeps `trunkline_<service>/migrations/versions/0001_*.py`; no ini file, no env.py.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.errors import SchemaMismatch, StoreError


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
            environment.configure(connection=conn, transactional_ddl=True, transaction_per_migration=False)
            environment.run_migrations()
    except CommandError as exc:
        raise SchemaMismatch(f"{package}: {exc}") from exc


def current_revision(conn: Connection) -> str | None:
    """Return the revision that the database is at, None before the first."""
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    return MigrationContext.configure(conn).get_current_revision()


def head_revision(package: str) -> str | None:
    """Return the newest revision that the code knows."""
    head: str | None = _scripts(package).get_current_head()
    return head


def differences(conn: Connection, metadata: sa.MetaData) -> list[Any]:
    """Return how the database differs from the declared tables, as Alembic tells it: [] when it does not.

    For each service's test that its migrations and its tables agree.
    """
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    return list(compare_metadata(MigrationContext.configure(conn), metadata))


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
