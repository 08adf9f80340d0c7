"""Revisions make what the tables declare, on each engine."""

from trunkline_ai.schema import metadata
from trunkline_store import Database
from trunkline_store.migrations import head_revision
from trunkline_store.testing.schema import differences, undeclared

from tests.integration.spanner_emulator import made_by_revisions, spanner_url  # noqa: F401 - a fixture

PACKAGE = "trunkline_ai.migrations"


async def test_in_a_file(tmp_path):
    async with await Database.open(f"sqlite:///{tmp_path}/ai.db", metadata, migrations=PACKAGE) as db:
        assert await db.read(lambda conn: differences(conn, metadata)) == []
    assert head_revision(PACKAGE) == "0120"


async def test_on_spanner(spanner_url):  # noqa: F811
    text = await made_by_revisions(spanner_url, PACKAGE, metadata)
    for part in (
        "NULL_FILTERED INDEX analyses_by_expiry ON analyses(tenant_id, expire_at)",
        "analyses_by_time ON analyses(tenant_id, created_at, analysis_id) STORING (call_id, generation,",
        "ROW DELETION POLICY (OLDER_THAN(expire_at, INTERVAL 0 DAY))",
    ):
        assert part in text, text


def test_options_name_what_is_there():
    assert undeclared(metadata) == []


def test_every_key_and_index_begins_with_the_tenant():
    for table in metadata.tables.values():
        for keyed in (table.primary_key, *table.indexes):
            assert next(iter(keyed.columns)).name == "tenant_id", keyed
