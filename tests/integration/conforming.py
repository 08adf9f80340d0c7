"""A service's conformance suite on every engine: its tests subclass this and name their tables and checks."""

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from trunkline_store import Database, FakeClock
from trunkline_store.database import ENGINES
from trunkline_store.migrations import migrate

from tests.integration.spanner_emulator import require_emulator


@functools.cache
def migrated_database(migrations):
    """The session's database of one service on the emulator; each check finds it empty."""
    url = require_emulator().create_database()
    migrate(url, migrations)
    return url


# Each gives the URL of a database for these migrations.
ENROLLED = {
    "sqlite": lambda folder, migrations: f"sqlite:///{folder}/conformance.db",
    "spanner": lambda folder, migrations: migrated_database(migrations),
}


class Conformance:
    """`checks` by name, each given a world; `exclusions`: (engine, check) -> why it is let off."""

    metadata: sa.MetaData
    migrations: str
    checks: Mapping[str, Any]
    exclusions: Mapping[tuple[str, str], str]

    def world(self, db, clock, folder):
        """What a check is given."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc):
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", sorted(self.checks))

    def empty(self, conn):
        for table in reversed(self.metadata.sorted_tables):
            conn.execute(sa.delete(table).where(sa.true()))

    @pytest.mark.parametrize("engine", sorted(ENROLLED))
    async def test_engine_conforms(self, engine, name, tmp_path):
        if reason := self.exclusions.get((engine, name)):
            pytest.skip(f"{engine} is let off {name}: {reason}")
        url, clock = ENROLLED[engine](tmp_path, self.migrations), FakeClock()
        async with await Database.open(url, self.metadata, migrations=self.migrations, clock=clock) as db:
            await db.write(self.empty)
            await self.checks[name](self.world(db, clock, tmp_path))

    def test_there_are_checks(self):
        assert self.checks

    def test_every_engine_is_enrolled(self):
        assert set(ENGINES) == set(ENROLLED)

    def test_exclusions_name_what_is_there(self):
        for (engine, name), reason in self.exclusions.items():
            assert engine in ENGINES
            assert name in self.checks
            assert reason
