"""Every service's revisions run on Spanner, and its server takes the schema that they make."""

import importlib

import pytest
from trunkline_store import Database, SchemaMismatch
from trunkline_store.migrations import head_revision, migrate

from tests.integration.spanner_emulator import spanner_url  # noqa: F401 - a fixture

TABLES = {
    "gateway": "trunkline_gateway.schema",
    "tenant": "trunkline_tenant.schema",
    "audio": "trunkline_audio.schema",
    "ai": "trunkline_ai.schema",
}


@pytest.mark.parametrize("service", sorted(TABLES))
async def test_a_services_revisions_make_a_schema_that_its_server_takes(spanner_url, service):  # noqa: F811
    package = f"trunkline_{service}.migrations"
    metadata = importlib.import_module(TABLES[service]).metadata
    with pytest.raises(SchemaMismatch, match="revision none"):
        await Database.open(spanner_url, metadata, migrations=package)
    assert migrate(spanner_url, package) == (None, head_revision(package))
    async with await Database.open(spanner_url, metadata, migrations=package) as db:
        await db.check()
        for table in metadata.sorted_tables:  # every declared column is there
            assert await db.read(lambda conn, table=table: conn.execute(table.select().limit(1)).all()) == []
