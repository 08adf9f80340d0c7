"""Migrations run at start, once, in one transaction."""

import sys

import pytest
import sqlalchemy as sa
from trunkline_store import Database, SchemaMismatch, StoreError, Text
from trunkline_store.migrations import current_revision, head_revision
from trunkline_store.testing.schema import differences

FIRST = """
import sqlalchemy as sa
from trunkline_store import Text
revision = "0001"
down_revision = None

def upgrade(op=None):
    from alembic import op
    op.create_table("notes", sa.Column("note_id", Text(40), primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
from trunkline_store import Text
revision = "0002"
down_revision = "0001"

def upgrade():
    with op.batch_alter_table("notes") as notes:
        notes.add_column(sa.Column("body", Text(100), nullable=False, server_default=""))
"""
BROKEN = SECOND.replace(
    "def upgrade():", "def upgrade():\n    op.create_table('half', sa.Column('x', sa.Integer))"
).replace('"notes"', '"nothing"')

METADATA = sa.MetaData()
NOTES = sa.Table(
    "notes",
    METADATA,
    sa.Column("note_id", Text(40), primary_key=True),
    sa.Column("body", Text(100), nullable=False, server_default=""),
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    name = f"migrations_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / "100% odd" / name
    (folder / "versions").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "versions" / "0001_notes.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(folder.parent))
    yield name, folder / "versions"
    sys.modules.pop(name, None)


async def revision_of(db):
    return await db.read(current_revision)


async def test_a_start_brings_the_schema_to_the_head_and_keeps_the_rows(url, package):
    name, versions = package
    async with await Database.open(url, METADATA, migrations=name) as db:
        assert await revision_of(db) == "0001"
        await db.write(lambda conn: conn.exec_driver_sql("INSERT INTO notes VALUES ('kept')"))
    (versions / "0002_body.py").write_text(SECOND)
    for _ in range(2):  # and again changes nothing
        async with await Database.open(url, METADATA, migrations=name) as db:
            assert await revision_of(db) == "0002" == head_revision(name)
            assert await db.read(lambda conn: conn.execute(sa.select(NOTES)).all()) == [("kept", "")]
            assert await db.read(lambda conn: differences(conn, METADATA)) == []


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(url, package):
    name, versions = package
    async with await Database.open(url, METADATA, migrations=name):
        pass
    (versions / "0002_broken.py").write_text(BROKEN)
    with pytest.raises(Exception, match="nothing"):
        await Database.open(url, METADATA, migrations=name)
    (versions / "0002_broken.py").unlink()
    async with await Database.open(url, METADATA, migrations=name) as db:
        assert await revision_of(db) == "0001"
        tables = await db.read(lambda conn: sa.inspect(conn).get_table_names())
        assert sorted(tables) == ["alembic_version", "notes"]


async def test_a_file_written_by_a_newer_version_is_refused(url, package):
    name, versions = package
    (versions / "0002_body.py").write_text(SECOND)
    async with await Database.open(url, METADATA, migrations=name):
        pass
    (versions / "0002_body.py").unlink()
    with pytest.raises(SchemaMismatch, match=r"at revision 0002 and .* needs 0001: a newer version wrote it"):
        await Database.open(url, METADATA, migrations=name)


async def test_differences_are_told(url, package):
    name, _ = package
    async with await Database.open(url, METADATA, migrations=name) as db:
        found = await db.read(lambda conn: differences(conn, METADATA))
    assert "body" in str(found)


async def test_a_package_that_is_not_there_is_named(url):
    with pytest.raises(StoreError, match="no_such_migrations"):
        await Database.open(url, METADATA, migrations="no_such_migrations")
