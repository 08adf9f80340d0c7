"""What the services' conformance suites share: enrolment on every engine, and what each check asks of a store."""

from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from trunkline.common.v1 import purge_pb2
from trunkline_store import Database, FakeClock
from trunkline_store.engines import ENGINES

from tests.integration.migrated_file import migrated_file
from tests.integration.spanner_emulator import migrated_database


@asynccontextmanager
async def in_a_file(folder, metadata, migrations):
    yield await migrated_file(folder / "conformance.db", metadata, migrations)


@asynccontextmanager
async def on_the_emulator(_folder, metadata, migrations):
    with migrated_database(migrations, metadata) as url:
        yield url


# Each gives the URL of an empty database for these migrations while a block lasts.
ENROLLED = {"sqlite": in_a_file, "spanner": on_the_emulator}


class StoredWorld:
    """What the checks of every service ask: of its own `db`, `metadata` and `admin`, its AdminService."""

    async def purge(self, tenant):
        request = purge_pb2.PurgeTenantRequest(name=f"tenants/{tenant}")
        while (await self.admin.PurgeTenant(request, None)).more:
            pass

    async def rows(self):
        """How many rows each tenant has in each table that has any."""

        def look(conn):
            counted = {}
            for table in self.metadata.sorted_tables:
                query = sa.select(table.c.tenant_id, sa.func.count()).group_by(table.c.tenant_id)
                counted |= {(table.name, tenant): count for tenant, count in conn.execute(query)}
            return counted

        return await self.db.read(look)


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

    @pytest.mark.parametrize("engine", sorted(ENROLLED))
    async def test_engine_conforms(self, engine, name, tmp_path):
        if reason := self.exclusions.get((engine, name)):
            pytest.skip(f"{engine} is let off {name}: {reason}")
        clock = FakeClock()
        async with (
            ENROLLED[engine](tmp_path, self.metadata, self.migrations) as url,
            await Database.open(url, self.metadata, migrations=self.migrations, clock=clock) as db,
        ):
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
