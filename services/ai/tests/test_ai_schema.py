from trunkline_ai.tables import metadata
from trunkline_store import Database
from trunkline_store.migrations import differences, head_revision
from trunkline_store.spanner import undeclared


async def test_migrations_and_tables_agree(tmp_path):
    url = f"sqlite:///{tmp_path}/ai.db"
    async with await Database.open(url, metadata, migrations="trunkline_ai.migrations") as db:
        assert await db.read(lambda conn: differences(conn, metadata)) == []
    assert head_revision("trunkline_ai.migrations") == "0002"


def test_spanner_options_name_what_is_there():
    assert undeclared(metadata) == []
    assert all(
        next(iter(table.primary_key.columns)).name == "tenant_id" for table in metadata.tables.values()
    )
