"""Migrations and declarations on Spanner."""

import os
import sys

import pytest
import sqlalchemy as sa
from trunkline_store import Database, SchemaMismatch, StoreUnsupported, Text, UtcTimestamp
from trunkline_store.declare import commit_time_column, index_options, pending_column, table_options
from trunkline_store.migrations import head_revision, migrate

from tests.forked import forked
from tests.integration.spanner_emulator import require_emulator, spanner_url  # noqa: F401 - a fixture

COLUMNS = """
import sqlalchemy as sa
from trunkline_store import Text, UtcTimestamp
from trunkline_store.declare import commit_time_column, index_options, pending_column, table_options
"""
FIRST = (
    COLUMNS
    + """
from alembic import op
revision = "0001"
down_revision = None

def upgrade():
    op.create_table("parents", sa.Column("parent_id", Text(40), primary_key=True))
    op.create_table(
        "children",
        sa.Column("parent_id", Text(40), primary_key=True),
        sa.Column("child_id", Text(40), primary_key=True),
        sa.Column("made_at", UtcTimestamp, nullable=False),
        commit_time_column("stored_at"),
        sa.Column("label", Text(100)),
        sa.Column("order", sa.Integer),
        info=table_options(interleave_in="parents", expire=("made_at", 30)),
    )
    op.create_index(
        "children_by_label", "children", ["parent_id", "label", "order"],
        info=index_options(storing=["order", "made_at"], null_filtered=True),
    )
    op.create_table(
        "log",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("at", UtcTimestamp, nullable=False),
        pending_column(),
    )
    op.create_index("log_pending", "log", ["pending", "at"], info=index_options(null_filtered=True))
"""
)
SECOND = """
import sqlalchemy as sa
from alembic import op
from trunkline_store import Text
revision = "0002"
down_revision = "0001"

def upgrade():
    op.add_column("parents", sa.Column("name", Text(80)))
    op.create_index("parents_by_name", "parents", ["name"])
"""

METADATA = sa.MetaData()
sa.Table("parents", METADATA, sa.Column("parent_id", Text(40), primary_key=True))
sa.Table(
    "children",
    METADATA,
    sa.Column("parent_id", Text(40), primary_key=True),
    sa.Column("child_id", Text(40), primary_key=True),
    sa.Column("made_at", UtcTimestamp, nullable=False),
    commit_time_column("stored_at"),
    sa.Column("label", Text(100)),
    sa.Column("order", sa.Integer),
    sa.Index(
        "children_by_label",
        "parent_id",
        "label",
        "order",
        info=index_options(storing=["order", "made_at"], null_filtered=True),
    ),
    info=table_options(interleave_in="parents", expire=("made_at", 30)),
)
sa.Table(
    "log",
    METADATA,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("at", UtcTimestamp, nullable=False),
    pending_column(),
    sa.Index("log_pending", "pending", "at", info=index_options(null_filtered=True)),
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    name = f"revisions_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    (folder / "versions").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "versions" / "0001_first.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield name, folder / "versions"
    sys.modules.pop(name, None)


def sessions_of(url):
    """The names of the sessions that anybody has on a database."""
    import grpc
    from google.cloud.spanner_v1 import SpannerClient
    from google.cloud.spanner_v1.services.spanner.transports.grpc import SpannerGrpcTransport

    with grpc.insecure_channel(require_emulator().address) as channel:
        client = SpannerClient(transport=SpannerGrpcTransport(channel=channel))
        return [session.name for session in client.list_sessions(database=url.partition(":///")[2])]


async def test_a_server_whose_revision_does_not_fit_says_which_is_there_and_which_is_needed(
    spanner_url,  # noqa: F811
    package,
):
    name, versions = package
    with pytest.raises(
        SchemaMismatch, match=r"at revision none and .* needs 0001: run python -m .*\.migrate"
    ):
        await Database.open(spanner_url, METADATA, migrations=name)
    assert sessions_of(spanner_url) == [], "who tries again every few seconds leaves no sessions behind"
    assert migrate(spanner_url, name) == (None, "0001")
    async with await Database.open(spanner_url, METADATA, migrations=name) as db:
        await db.check()
        assert len(sessions_of(spanner_url)) > 1
    (versions / "0002_second.py").write_text(SECOND)
    with pytest.raises(SchemaMismatch, match=r"at revision 0001 and .* needs 0002"):
        await Database.open(spanner_url, METADATA, migrations=name)
    assert migrate(spanner_url, name) == ("0001", "0002") == ("0001", head_revision(name))
    assert migrate(spanner_url, name) == ("0002", "0002")
    async with await Database.open(spanner_url, METADATA, migrations=name) as db:
        await db.check()
    (versions / "0002_second.py").unlink()
    with pytest.raises(SchemaMismatch, match=r"at revision 0002 and .* needs 0001: a newer version wrote it"):
        await Database.open(spanner_url, METADATA, migrations=name)
    with pytest.raises(SchemaMismatch, match="0002"):
        migrate(spanner_url, name)


async def test_a_revision_makes_what_the_tables_declare(spanner_url, package):  # noqa: F811
    emulator = require_emulator()
    migrate(spanner_url, package[0])
    declared = emulator.create_database()
    async with await Database.open(declared, METADATA) as db:
        await db.check()
    schema = emulator.schema_of(declared)
    assert emulator.schema_of(spanner_url) == schema
    text = " ".join(" ".join(schema).split())
    assert "INTERLEAVE IN PARENT parents ON DELETE CASCADE" in text
    assert "ROW DELETION POLICY (OLDER_THAN(made_at, INTERVAL 30 DAY))" in text
    assert (
        "NULL_FILTERED INDEX children_by_label ON children(parent_id, label) STORING (`order`, made_at)"
        in text
    )
    assert "stored_at TIMESTAMP NOT NULL OPTIONS ( allow_commit_timestamp = true" in text
    emulator.drop_database(declared)


def test_the_command_migrates_and_tells(spanner_url, package, tmp_path):  # noqa: F811
    name, _ = package

    def run(*arguments):
        return forked("trunkline_store.migrate").run(arguments, os.environ, tmp_path)

    first, again = run(spanner_url, name), run(spanner_url, name)
    assert (first.returncode, first.stdout) == (0, f"{name}: empty -> 0001\n"), first.stderr
    assert (again.returncode, again.stdout) == (0, f"{name}: is at 0001\n")
    nowhere = run(spanner_url.replace("/databases/", "/databases/nowhere-"), name)
    assert nowhere.returncode == 1
    assert "nowhere" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr


def test_a_database_in_a_file_is_not_migrated_by_the_command(tmp_path):
    with pytest.raises(StoreUnsupported, match="migrates when it is opened"):
        migrate(f"sqlite:///{tmp_path}/x.db", "whatever")
